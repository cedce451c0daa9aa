-- Keeps a generation under its id, and every file of its conversation at least as long.
--
-- KEYS  1 the generation   then the files
-- ARGV  1 the record   2 how long it is kept, ms   3 how long its files are kept at least, ms

redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for index = 2, #KEYS do
  if redis.call('PTTL', KEYS[index]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[index], ARGV[3]) end
end
