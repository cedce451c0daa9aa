-- Runs on its own keys every command that admission and settlement run on a tenant's, and leaves nothing behind: if server
-- and user allow this script, they allow those. Like them, it is refused if there is no memory left.
--
-- KEYS  1 hash   2 sorted set   3 stream   4 string
-- ARGV  1 channel

local HASH, SORTED, STREAM, STRING = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

redis.call('HSET', HASH, 'a', '1', 'b', '2')
redis.call('HINCRBY', HASH, 'a', 1)
redis.call('HGET', HASH, 'a')
redis.call('HMGET', HASH, 'a', 'b')
redis.call('HGETALL', HASH)
redis.call('HKEYS', HASH)
redis.call('TYPE', HASH)
redis.call('HEXISTS', HASH, 'a')
redis.call('HDEL', HASH, 'a')
redis.call('ZADD', SORTED, 1, 'a')
redis.call('ZCARD', SORTED)
redis.call('ZCOUNT', SORTED, 0, 1)
redis.call('ZREMRANGEBYSCORE', SORTED, 2, 3)
redis.call('ZRANGE', SORTED, 0, 0)
redis.call('ZSCORE', SORTED, 'a')
redis.call('ZMSCORE', SORTED, 'a')
redis.call('ZREM', SORTED, 'a')
redis.call('XADD', STREAM, 'MAXLEN', '~', 1, '*', 'a', '1')
redis.call('SET', STRING, '1')
redis.call('INCR', STRING)
redis.call('GET', STRING)
redis.call('PEXPIRE', STRING, 1000)
redis.call('PTTL', STRING)
redis.call('DEL', HASH, SORTED, STREAM, STRING)
redis.call('PUBLISH', ARGV[1], 'trial')
return redis.call('TIME')
