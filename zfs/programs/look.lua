-- Returns what zfs-get(8) shows of datasets and snapshots, for those that exist: the values, and where they were set.
-- With `own` every property of ezz is returned, in addition to those that are named.
local a, found = ..., {}
for _, d in ipairs(a.ds) do
  if zfs.exists(d) then
    local v, s = {}, {}
    for _, p in ipairs(a.p) do
      v[p], s[p] = zfs.get_prop(d, p)
    end
    if a.own then
      for p, value, source in zfs.list.properties(d) do
        if p:sub(1, 4) == "ezz:" then v[p], s[p] = value, source end
      end
    end
    found[d] = {v = v, s = s}
  end
end
return found
