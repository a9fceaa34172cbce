-- Destroys datasets in the given order, dependants first. Everything that can be checked is checked first, because a
-- destroy cannot be undone.
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
-- The epoch comes first: it can be undone as long as nothing is destroyed. The same holds for the intents. If a signal
-- stops the program, they show that the rest is to be destroyed, too; without the first of them the others have no
-- meaning.
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
