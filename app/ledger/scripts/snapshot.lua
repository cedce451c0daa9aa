-- A tenant's ledger at one moment. KEYS res win exp; returns {records, counters, open holds, now in seconds}.
return {
  redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('ZRANGE', KEYS[3], 0, -1),
  redis.call('TIME')[1],
}
