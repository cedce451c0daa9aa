-- Takes the names of entries that were set aside and of which no gateway has told yet. KEYS 1 win; returns their lines.
local untold = redis.call('HGET', KEYS[1], '!aside') or ''
redis.call('HDEL', KEYS[1], '!aside')
return untold
