// box-node-sdk of the classic generation: its stream asks OPTIONS anew for each batch of events.
import assert from 'node:assert/strict'
import http from 'node:http'
import { createRequire } from 'node:module'
import { follow, log, root, token, write } from './box.mjs'

const BoxSDK = createRequire(import.meta.url)('box-node-sdk-3')
const sdk = new BoxSDK({ clientID: 'id', clientSecret: 'secret', apiRootURL: root, numMaxRetries: 0, request: { agentClass: http.Agent } }) // else it wants TLS
const client = sdk.getBasicClient(token)

// Where to wait.
const server = await client.events.getLongPollInfo()
assert.deepEqual([server.type, server.ttl, server.max_retries, server.retry_timeout], ['realtime_server', '10', '10', 610])

// Lists.
const before = await log()
const now = await client.events.getCurrentStreamPosition()
assert.equal(now, before.at(-1).EntityEventSequence)
const first = await client.events.get({ stream_position: '0', limit: 2 })
assert.deepEqual(first.entries.map((e) => e.source.EntityEventSequence), before.slice(0, 2).map((e) => e.EntityEventSequence))
assert.deepEqual([first.chunk_size, first.next_stream_position], [2, before[1].EntityEventSequence])
const [entry] = first.entries
assert.deepEqual([entry.type, entry.event_id, entry.event_type, entry.session_id], ['event', String(before[0].EntityEventSequence), 'ENTITY_EVENT', null])
assert.ok(Date.parse(entry.created_at) > Date.parse('2020-01-01'))
assert.deepEqual(await client.events.get({ stream_position: now }), { chunk_size: 0, next_stream_position: now, entries: [] })

// A stream from the start, and one from now.
const whole = await client.events.getEventStream('0', { fetchInterval: 20, retryDelay: 50 })
await follow(whole, (event) => event.source)
const later = await client.events.getEventStream({ fetchInterval: 20, retryDelay: 50 })
const next = new Promise((resolve, reject) => later.on('error', reject).on('data', resolve))
await new Promise((resolve) => setTimeout(resolve, 200))
await write(1)
assert.equal((await next).source.EntityEventSequence, (await log()).at(-1).EntityEventSequence)
later.destroy()

// Refusals.
const refused = await client.events.get({ stream_position: 'yesterday' }).then(() => assert.fail(), (error) => error)
assert.deepEqual([refused.statusCode, refused.response.body.type, refused.response.body.code], [400, 'error', 'bad_request'])
const stranger = await sdk.getBasicClient('x').events.getCurrentStreamPosition().then(() => assert.fail(), (error) => error)
assert.equal(stranger.statusCode, 401)
console.log('done')
process.exit(0)
