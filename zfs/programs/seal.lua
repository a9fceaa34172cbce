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

-- Native properties can be inherited but not set: of what cannot be undone first what does no harm if it stays.
local function freeze()
  for _, x in ipairs({{k, "sync"}, {b, "sync"}, {b, "readonly"}}) do
    local e = zfs.sync.inherit(x[1], x[2])
    if e ~= 0 then return back("inherit", x[1], e, x[2]) end
  end
end

-- A signal can stop this between any two calls, and what was done stays. While the base has the mark and no
-- track has been at the generation, it is not sealed. So the track, if there is one, decides, or else the end of the mark.
return raise() or put(b, "ezz:sealing", "1") or snap(bs) or snap(ks) or put(b, "ezz:world", a.world)
  or put(ks, "ezz:sealed", a.sealed) or put(bs, "ezz:sealed", a.sealed) or freeze()
  or a.track and change(B, a.track, a.v) or put(b, "ezz:sealing") or ok()
