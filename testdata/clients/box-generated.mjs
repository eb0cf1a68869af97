// The generated SDKs: box-typescript-sdk-gen, and box-node-sdk from version 10 on. They check the type of each member, and
// ask one url as often as it may be asked.
import assert from 'node:assert/strict'
import { follow, log, root, token, write } from './box.mjs'

const { BoxClient, BoxDeveloperTokenAuth } = await import(process.argv[2])
const clientOf = (token) => new BoxClient({ auth: new BoxDeveloperTokenAuth({ token }) }).withCustomBaseUrls({ baseUrl: root, uploadUrl: root, oauth2Url: root })
const client = clientOf(token)

// Where to wait.
const servers = await client.events.getEventsWithLongPolling()
assert.equal(servers.chunkSize, 1)
const [server] = servers.entries
assert.deepEqual([server.type, server.ttl, server.maxRetries, server.retryTimeout], ['realtime_server', '10', '10', 610])

// Lists.
const before = await log()
const now = await client.events.getEvents({ streamPosition: 'now' })
assert.deepEqual([now.chunkSize, now.nextStreamPosition, now.entries], [0, before.at(-1).EntityEventSequence, []])
const first = await client.events.getEvents({ streamPosition: '0', limit: 2, streamType: 'admin_logs', eventType: ['UPLOAD'], createdAfter: undefined })
assert.deepEqual([first.chunkSize, first.nextStreamPosition], [2, before[1].EntityEventSequence])
const [entry] = first.entries
assert.deepEqual([entry.type, entry.eventId, entry.eventType, entry.sessionId ?? null], ['event', String(before[0].EntityEventSequence), 'ENTITY_EVENT', null])
assert.deepEqual([entry.createdBy.type, entry.createdBy.name], ['user', 'mls'])
assert.ok(entry.createdAt.value.getTime() > Date.parse('2020-01-01'))
assert.equal(entry.recordedAt.value.getTime(), entry.createdAt.value.getTime())

// A stream from the start, and one from now.
await follow(client.events.getEventStream({ streamPosition: '0' }), (event) => event.source)
const later = client.events.getEventStream()
const next = new Promise((resolve, reject) => later.on('error', reject).on('data', resolve))
await new Promise((resolve) => setTimeout(resolve, 200))
await write(1)
assert.equal((await next).source.EntityEventSequence, (await log()).at(-1).EntityEventSequence)
later.destroy()

// Refusals.
const refused = await client.events.getEvents({ streamPosition: 'yesterday' }).then(() => assert.fail(), (error) => error)
assert.match(refused.message, /^400 .*stream_position is neither/)
console.log('done')
process.exit(0)
