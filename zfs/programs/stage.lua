-- Takes the next generation's number.
local r = stale()
if r then return r end
if own(S, "ezz:seq") ~= a.seq then return no("differs", S, nil, "ezz:seq") end
local n = tostring(tonumber(a.seq) + 1)
return put(S, "ezz:seq", n) or raise() or ok(n)
