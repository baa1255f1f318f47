-- Performs a list of steps on one account: transactions (counters with floors, records) and looks. It knows nothing of
-- what the counters mean.
--
-- KEYS  1 the counters, a string. At its head whole numbers of 8 bytes, little end first:
--             the layout of these keys,
--             the latest time this account has seen, so that time never runs backwards for it,
--             when the keys expire,
--             the number of the last wake-up: its time, or one more than the one before,
--             how many counters there are,
--             the last call that did something: its number, and how many transactions it had,
--             by how much this account's time is ahead of the server's clock;
--         then, in 16 bytes each, the sender of that call, and a digest of the counters' names; then
--             the values of the counters, as the numbers before,
--             what became of each transaction of that call, a byte each,
--             the names of the counters, each after its length in 4 bytes. Names are only ever added.
--       2 records, a hash; the field "@" is ours, and keeps it from vanishing when the last record does
--       3 the ends of their leases, a sorted set, with the same "@"
--       4 what a sender did last here, where key 1 tells of another; a call that was sent twice is done once.
--         The name ends in the sender's, of 16 bytes
-- ARGV  1 three whole numbers in the same form,
--             the sender's number of this call, growing; 0 for a call that only looks,
--             microseconds until a silent account is forgotten,
--             milliseconds for which key 4 is kept;
--         then, in 16 bytes, the digest of the names the sender knows
--       2 the form in which the values are to be read: those that are used as numbers, what lies between as bytes. What
--         is read has places, from 1 on; steps name a counter by its place
--       3 names that are new, as in key 1; their places are the next ones
--       4 ... the steps, each of whole numbers in the same form, followed by texts
--
--   0, or 1 to wake those who wait; how many adds floors expects withins stamps drops puts; then the places
--       of the counters to add to, with floors, and so on; then deltas, minimums, values, ages, and leases, or NONE;
--       texts {key value} {key value}
--   2, or 3 for what is due too; how many keys; texts {key}
--
-- Answers the time as such a number, what became of each transaction, a byte each, and key 1: as it is after a single
-- step, and as it was before several; without the last two parts if the sender knows the names. If steps were looks, or
-- were done before, that is the first in a list, and whether they were done before, how many bytes that are, and what
-- was found follow. To one who wants more than looks and does not know the names, key 1 alone in a list, and nothing is
-- done.
--
-- Times are whole microseconds. Numbers are doubles here, exact up to 2^53; what would leave that range is refused.

local MAX = 9007199254740991
local NONE = -4611686018427387904
local LAYOUT = 3
local HEAD = '<i8i8i8i8i8i8i8i8c16c16'
local HEAD_SIZE = 96
local NO_NAMES = '----------------'
local DUE_MAX = 100

local COUNTERS, RECORDS, DUE, LAST = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, text, rep, sub, pack, cut = redis.call, string.format, string.rep, string.sub, struct.pack, struct.unpack
local sender = sub(LAST, -16)
local number, forget, keep, digest = cut('<i8i8i8c16', ARGV[1])

local before = call('GET', COUNTERS)
local seen, expired, woken, count, last_number, last_steps, ahead = 0, 0, 0, 0, 0, 0, 0
local last_sender, known = '', NO_NAMES
local flags_at = HEAD_SIZE
if before then
  local layout = 'none'
  if #before >= HEAD_SIZE then
    layout, seen, expired, woken, count, last_number, last_steps, ahead, last_sender, known = cut(HEAD, before)
  end
  flags_at = HEAD_SIZE + 8 * count
  if layout ~= LAYOUT or count < 0 or last_steps < 0 or #before < flags_at + last_steps then
    return redis.error_reply('LAYOUT ' .. tostring(layout) .. ' instead of ' .. LAYOUT)
  end
end
if known ~= digest and number > 0 then
  return {before or ''}
end
local held, rest_at = {}, HEAD_SIZE + 1
if before and ARGV[2] ~= '' then
  held = {cut(ARGV[2], before, rest_at)}
  rest_at, held[#held] = held[#held], nil
end
local used = #held

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2] + ahead
if now < seen then
  -- The clock was set back. Time goes on from where it was: if it stood still until the clock is there again, no lease
  -- would end, and no reading would grow old.
  ahead = ahead + seen - now
  now = seen
end

-- A call whose number is not new was sent twice: the connection was lost before its answer came.
local done_before = nil
if number > 0 then
  if sender ~= last_sender then
    local mine, flags = string.match(call('GET', LAST) or '0 ', '^(%d+) (.*)$')
    if tonumber(mine) >= number then
      done_before = tonumber(mine) == number and flags or ''
    end
  elseif last_number >= number then
    done_before = last_number == number and sub(before, flags_at + 1, flags_at + last_steps) or ''
  end
end
local writing = number > 0 and not done_before

-- One step after the other, written out here: functions that share variables cost more than what they do. A transaction
-- is looked at first, and changes something only when nothing is amiss. The first write may find the server out of
-- memory; nothing has happened then.
local flags, answer, steps, at = '', {}, 0, 4
local waking, expires = false, now + forget
while at <= #ARGV do
  local step = {cut('<' .. rep('i8', #ARGV[at] / 8), ARGV[at])}
  local kind = step[1]
  steps = steps + 1
  if kind < 2 then
    local adds, floors, expects, withins, stamps = step[2], step[3], step[4], step[5], step[6]
    local amounts = adds + floors + expects + withins + stamps  -- so far behind its place stands an amount
    local floor_at = 9 + adds
    local expect_at = floor_at + floors
    local within_at = expect_at + expects
    local stamp_at = within_at + withins
    local lease_at = 9 + 2 * amounts - stamps
    local drop_at = at + 1
    local put_at = drop_at + 2 * step[7]
    at = put_at + 2 * step[8]
    local flag = writing and '1' or '0'
    if writing then
      for i = expect_at, within_at - 1 do
        if (held[step[i]] or 0) ~= step[i + amounts] then
          flag = '0'
        end
      end
      for i = within_at, stamp_at - 1 do
        local time = held[step[i]] or 0
        if time == 0 or now - time > step[i + amounts] then
          flag = '0'
        end
      end
      -- Added at once, and taken back if something is amiss: what there was is kept where the delta was.
      local in_range = true
      for i = 9, floor_at - 1 do
        local place, delta = step[i], step[i + amounts]
        local old = held[place]
        local sum = (old or 0) + delta
        if sum > MAX or sum < -MAX or delta > MAX or delta < -MAX then
          in_range = false
        end
        held[place], step[i + amounts] = sum, old
      end
      for i = floor_at, expect_at - 1 do
        if (held[step[i]] or 0) < step[i + amounts] then
          flag = '0'
        end
      end
      local dropped = nil
      for i = drop_at, put_at - 2, 2 do
        if flag == '1' and call('HGET', RECORDS, ARGV[i]) ~= ARGV[i + 1] then
          flag = '0'
        end
        dropped = dropped or {}
        dropped[ARGV[i]] = true
      end
      -- A record that is new must not exist. The last one is found to be new by writing it, if all else is well.
      local new = nil
      for i = put_at, at - 2, 2 do
        if not (dropped and dropped[ARGV[i]]) then
          if new and flag == '1' and call('HEXISTS', RECORDS, ARGV[new]) == 1 then
            flag = '0'
          end
          new = i
        end
      end
      if flag == '1' and not in_range then
        flag = 'x'
      end
      if new and flag == '1' and call('HSETNX', RECORDS, ARGV[new], ARGV[new + 1]) == 0 then
        flag = '0'
      end
      if flag ~= '1' then
        for i = 9, floor_at - 1 do
          held[step[i]] = step[i + amounts]
        end
      else
        for i = stamp_at, stamp_at + stamps - 1 do
          held[step[i]] = now
        end
        for i = put_at, at - 2, 2 do
          local key, lease = ARGV[i], step[lease_at]
          lease_at = lease_at + 1
          if i ~= new then
            call('HSET', RECORDS, key, ARGV[i + 1])
          end
          if lease ~= NONE then
            local due = now + lease
            call('ZADD', DUE, due, key)
            if due + forget > expires then
              expires = due + forget
            end
          elseif dropped and dropped[key] then
            call('ZREM', DUE, key)
          end
          if dropped then
            dropped[key] = nil
          end
        end
        for i = drop_at, put_at - 2, 2 do
          if dropped[ARGV[i]] then
            call('HDEL', RECORDS, ARGV[i])
            call('ZREM', DUE, ARGV[i])
          end
        end
        waking = waking or kind == 1
      end
    end
    flags = flags .. flag
  else
    local keys, found = {}, {}
    for i = at + 1, at + step[2] do
      keys[#keys + 1] = ARGV[i]
    end
    if kind == 3 then
      for _, key in ipairs(call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, DUE_MAX)) do
        keys[#keys + 1] = key
      end
    end
    for i, key in ipairs(keys) do
      local value = call('HGET', RECORDS, key)
      if value then
        found[#found + 1] = key
        found[#found + 1] = value
      elseif i > step[2] then
        call('ZREM', DUE, key)
      end
    end
    at = at + step[2] + 1
    answer[#answer + 1] = found
  end
end

local said = ''
if before and steps > 1 then
  said = known == digest and sub(before, 1, flags_at) or before
end
if writing or before then
  local rest, last_flags, names = '', '', ''
  if before then
    rest, last_flags = sub(before, rest_at, flags_at), sub(before, flags_at + 1, flags_at + last_steps)
    names = sub(before, flags_at + last_steps + 1)
  end
  if waking then
    woken = woken < now and now or woken + 1
    call('PUBLISH', sub(COUNTERS, 1, -9) .. 'wake', woken)
  end
  if writing then
    if sender ~= last_sender and last_sender ~= '' then
      call('SET', sub(LAST, 1, -17) .. last_sender, text('%.0f', last_number) .. ' ' .. last_flags, 'PX', text('%.0f', keep))
    end
    last_number, last_sender, last_flags, last_steps = number, sender, flags, #flags
  end
  if ARGV[3] ~= '' then
    local from, place, name = 1, used, nil
    while from <= #ARGV[3] do
      name, from = cut('<I4c0', ARGV[3], from)
      place = place + 1
      if held[place] then
        count = count + 1
        rest = rest .. pack('<i8', held[place])
        names = names .. pack('<I4', #name) .. name
      end
    end
    known = count > 0 and sub(redis.sha1hex(names), 1, 16) or known
  end
  -- The keys live as long as the account is used, and longer than any lease. Renewed now and then, not each time.
  local renew = writing and expires > expired + forget / 16
  if renew then
    expired = expires
  end
  local after = pack(HEAD, LAYOUT, now, expired, woken, count, last_number, last_steps, ahead, last_sender, known)
    .. (used > 0 and pack(ARGV[2], unpack(held, 1, used)) or '') .. rest
  local state = after .. last_flags .. names
  if renew then
    local expires_ms = text('%.0f', math.floor((expires - ahead) / 1000))
    call('SET', COUNTERS, state, 'PXAT', expires_ms)
    call('HSET', RECORDS, '@', '')
    call('ZADD', DUE, 'inf', '@')
    call('PEXPIREAT', RECORDS, expires_ms)
    call('PEXPIREAT', DUE, expires_ms)
  else
    call('SET', COUNTERS, state, 'KEEPTTL')
  end
  if steps == 1 then
    said = known == digest and after or state
  end
end

flags = done_before or flags
said = pack('<i8', now) .. flags .. said
if #answer == 0 and not done_before then
  return said
end
return {said, done_before and 1 or 0, #flags, unpack(answer)}
