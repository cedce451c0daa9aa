-- Takes the names of entries that were set aside and that no gateway has reported yet. KEYS 1 win; returns one per line.
local unreported = redis.call('HGET', KEYS[1], '!aside') or ''
redis.call('HDEL', KEYS[1], '!aside')
return unreported
