-- Destroys one half of a generation with its sealed snapshot. If other bases are clones of it, one of them, the heir,
-- takes over its snapshots first, and the others become clones of the heir.
local r = stale()
if r then return r end
local d, h, moved = a.ds, a.heir, {}
if not zfs.exists(d) then return no("absent", d) end
if zfs.get_prop(d, "guid") ~= a.guid then return no("differs", d, nil, "guid") end
for c in zfs.list.children(d) do return no("child", c, EEXIST) end
for s in zfs.list.snapshots(d) do
  if not string.find(s, "@%d+$") then return no("snapshot", s, EBUSY) end
  if zfs.get_prop(s, "userrefs") > 0 then return no("held", s, EBUSY) end
  if not h then
    for c in zfs.list.clones(s) do return no("clone", c, EEXIST) end
  end
  moved[#moved + 1] = s
end
if h then
  if not zfs.exists(h) then return no("absent", h) end
  if zfs.get_prop(h, "origin") ~= d .. "@" .. string.match(d, "[^/]+$") then return no("differs", h, nil, "origin") end
end
local e = busy(d)
if e == EBUSY then return no("busy", d, e) end
-- The mark shows what a program that was stopped half-way has left behind.
r = raise() or put(d, "ezz:pruned", "1")
if r then return r end
if h then
  e = zfs.sync.promote(h)
  if e ~= 0 then return back("promote", h, e) end
  later(zfs.sync.promote, d)
  e = zfs.sync.destroy(d)
  if e ~= 0 then return back("destroy", d, e) end
else
  moved[#moved + 1] = d
end
-- Nothing can be undone from here. A snapshot that has other clones stays where the promotion has moved it.
for i, s in ipairs(moved) do
  if h then s = h .. string.match(s, "@.*$") end
  local kept
  if h then
    for _ in zfs.list.clones(s) do kept = true end
  end
  if not kept then
    e = zfs.sync.destroy(s)
    if e ~= 0 then
      if i == 1 and not h then return back("destroy", s, e) end
      return {status = "failed", why = "destroy", ds = s, errno = e, done = i - 1 + (h and 1 or 0), epoch = E}
    end
  end
end
return ok()
