-- Seals generation a.number: both snapshots, their seal, the world, a track, the epoch.
local r = stale()
if r then return r end
local n, B = a.number, S .. "/basejail"
local b, k = B .. "/" .. n, S .. "/newjail/" .. n
local bs, ks = b .. "@" .. n, k .. "@" .. n
for _, d in ipairs({b, k}) do
  if not zfs.exists(d) then return no("absent", d) end
end
for _, s in ipairs({bs, ks}) do
  if zfs.exists(s) then return no("present", s) end
end
for _, d in ipairs({b, k}) do
  local e = busy(d)
  if e == EBUSY then return no("busy", d, e) end
end
if zfs.get_prop(B, "readonly") ~= "on" then return no("writable", B) end
if a.track and differs(B, a.track, a.x) then return no("differs", B, nil, a.track) end

local function snap(s)
  local e = zfs.sync.snapshot(s)
  if e ~= 0 then return back("snapshot", s, e) end
  later(zfs.sync.destroy, s)
end

-- Native properties can be inherited but not set: what cannot be undone comes last, and of it
-- first what does no harm if it stays.
local function freeze()
  for _, x in ipairs({{k, "sync"}, {b, "sync"}, {b, "readonly"}}) do
    local e = zfs.sync.inherit(x[1], x[2])
    if e ~= 0 then return back("inherit", x[1], e, x[2]) end
  end
end

-- The seal of the base comes after all that a sealed generation has: cut short, it tells.
return snap(bs) or snap(ks) or put(b, "ezz:world", a.world) or put(ks, "ezz:sealed", a.sealed)
  or put(bs, "ezz:sealed", a.sealed) or a.track and change(B, a.track, a.v)
  or raise() or freeze() or ok()
