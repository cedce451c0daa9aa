-- The contents of keys of one slot, all at one moment. KEYS any; returns {type, contents} for each key: fields and values of
-- a hash, members and scores of a sorted set, or the string.
local reply = {}
for index, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then
    reply[index] = { kind, redis.call('HGETALL', key) }
  elseif kind == 'zset' then
    reply[index] = { kind, redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') }
  elseif kind == 'string' then
    reply[index] = { kind, { '', redis.call('GET', key) } }
  else
    reply[index] = { 'none', {} }
  end
end
return reply
