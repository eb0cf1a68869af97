// What the producer under test holds: the test imports it, and the clients compare with it.
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const statuses = ['Active', 'Pending', 'Closed']
const cities = ['Springfield', "O'Fallon", 'Shelbyville & Sons', 'São Tomé']
const types = ['Residential', 'Land', 'Farm']
const appliances = [['Oven'], ['Dishwasher', 'Oven'], []]

export const properties = Array.from({ length: 250 }, (_, i) => ({
  ListingKey: i === 7 ? "O'Neil/7" : `P${String(i).padStart(4, '0')}`,
  StandardStatus: statuses[i % 3],
  PropertyType: types[i % 3],
  City: cities[i % 4],
  ListPrice: 100000.5 + i * 1000,
  BedroomsTotal: i % 5,
  Appliances: appliances[i % 3],
  InternetEntireListingDisplayYN: i % 2 === 0,
  ListingContractDate: `2026-01-${String(1 + (i % 28)).padStart(2, '0')}`,
  CloseDate: i % 3 === 2 ? '2026-03-01' : null,
  ListAgentKey: `M${i % 3}`,
  SourceSystemGuid: `5f1c2d3e-0000-4000-8000-${String(i).padStart(12, '0')}`,
  ModificationTimestamp: new Date(Date.UTC(2026, 0, 1, 0, 0, 0, 250) + i * 3600000).toISOString(),
}))

export const members = Array.from({ length: 3 }, (_, i) => ({ MemberKey: `M${i}`, MemberFullName: `Agent ${i}`, MemberStatus: 'Active' }))

export const media = Array.from({ length: 30 }, (_, i) => ({
  MediaKey: `X${String(i).padStart(2, '0')}`,
  ResourceName: 'Property',
  ResourceRecordKey: `P000${Math.floor(i / 5)}`,
  MediaURL: `https://media.example/${i}.jpg`,
  Order: i % 5,
}))

export const keys = (records) => records.map((r) => r.ListingKey).sort()

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, records] of Object.entries({ Property: properties, Member: members, Media: media })) {
    writeFileSync(`${process.argv[2]}/${name}.jsonl`, records.map((r) => JSON.stringify(r) + '\n').join(''))
  }
}
