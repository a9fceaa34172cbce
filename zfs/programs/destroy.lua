-- Destroys datasets in the order given, dependants first. Everything that can be known is checked
-- before, because a destroy has no undo.
local r = stale()
if r then return r end
local gone = {}
for i, d in ipairs(a.ds) do
  if not zfs.exists(d) then return no("absent", d) end
  if zfs.get_prop(d, "guid") ~= a.guids[i] then return no("differs", d, nil, "guid") end
  local at = string.find(d, "@", 1, true)
  if at then
    if zfs.get_prop(d, "userrefs") > 0 then return no("held", d, EBUSY) end
    local e = zfs.check.destroy(d)
    if e == EEXIST then
      for c in zfs.list.clones(d) do
        if not gone[c] then return no("clone", c, e) end
      end
    elseif e ~= 0 then
      return no("busy", d, e)
    end
  else
    local alone = true
    for c in zfs.list.children(d) do
      if not gone[c] then return no("child", c, EEXIST) end
      alone = false
    end
    for s in zfs.list.snapshots(d) do
      if not gone[s] then return no("snapshot", s, EBUSY) end
    end
    local e = busy(d)
    if e == EBUSY or e and alone then return no("busy", d, e) end
  end
  gone[d] = true
end
-- The epoch first: it can be undone as long as nothing is destroyed. So can the intents, which say if a
-- signal stops the program that the rest is to go too; without the first of them they say nothing.
r = raise()
if r then return r end
local J = S .. "/jails"
for i = #a.ip, 1, -1 do
  r = put(J, a.ip[i], a.iv[i])
  if r then return r end
end
for i, d in ipairs(a.ds) do
  local e = zfs.sync.destroy(d)
  if e ~= 0 then
    if i == 1 then return back("destroy", d, e) end
    return {status = "failed", why = "destroy", ds = d, errno = e, done = i - 1, epoch = E}
  end
end
for _, p in ipairs(a.ip) do zfs.sync.inherit(J, p) end
return ok()
