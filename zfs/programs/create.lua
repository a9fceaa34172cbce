-- Clones all jails or none. The undo destroys the clones, which needs no space. Clones of a jail are made from a
-- snapshot that is created here and destroyed with the last of them. The intents exist from before the first clone
-- until after the last property: if a signal stops the program in between, its changes remain, and the intents show it.
local r = stale()
if r then return r end
if not zfs.sync.clone then return no("unsupported") end
local J = S .. "/jails"
if not zfs.exists(J) then return no("absent", J) end
for _, o in ipairs(a.origins) do
  if o ~= a.snap then
    if not zfs.exists(o) then return no("absent", o) end
    if not own(o, "ezz:sealed") then return no("unsealed", o) end
  end
end
if a.snap then
  local source = string.match(a.snap, "^[^@]+")
  if not zfs.exists(source) then return no("absent", source) end
  if zfs.exists(a.snap) then return no("present", a.snap) end
end
for _, n in ipairs(a.names) do
  if zfs.exists(J .. "/" .. n) then return no("present", J .. "/" .. n) end
end
for i, p in ipairs(a.ip) do
  r = put(J, p, a.iv[i])
  if r then return r end
end
if a.snap then
  local e = zfs.sync.snapshot(a.snap)
  if e ~= 0 then return back("snapshot", a.snap, e) end
  later(zfs.sync.destroy, a.snap)
end
for i, n in ipairs(a.names) do
  local d = J .. "/" .. n
  local e = zfs.sync.clone(a.origins[a.o[i]], d)
  if e ~= 0 then return back("clone", d, e) end
  later(zfs.sync.destroy, d)
  e = zfs.sync.set_prop(d, "ezz:jail", a.jails[i])
  if e ~= 0 then return back("set", d, e, "ezz:jail") end
end
if a.snap then
  local e = zfs.sync.destroy({a.snap, defer = true})
  if e ~= 0 then return back("defer", a.snap, e) end
end
for _, p in ipairs(a.ip) do
  r = put(J, p)
  if r then return r end
end
return raise() or ok()
