-- Compares and sets many user properties: property p of ds must have the value x, and gets the value v.
local r = stale()
if r then return r end
local n = #a.ds
for i = 1, n do
  local d, p = a.ds[i], a.p[i]
  if not zfs.exists(d) then return no("absent", d) end
  if differs(d, p, a.x[i]) then return no("differs", d, nil, p) end
end
for _, s in ipairs(a.sealed) do
  if not zfs.exists(s) then return no("absent", s) end
  if not own(s, "ezz:sealed") then return no("unsealed", s) end
end
-- Each set needs 96 KiB of space, and so does each undo: a long list must not get stuck half-way.
if n > 16 and zfs.get_prop(string.match(S, "^[^/]+"), "available") < n * 2 * 98304 then
  return no("space", S, ENOSPC)
end
local function set(i)
  return change(a.ds[i], a.p[i], a.v[i])
end
-- In an adoption the last change follows the epoch, because that change turns the replica into a site.
local m = a.adopt and n - 1 or n
for i = 1, m do
  r = set(i)
  if r then return r end
end
r = raise()
if r then return r end
if m < n then
  r = set(n)
  if r then return r end
end
return ok()
