/** What an entry costs at the catalog's edge: checked, stamped and encoded; read back; beside protobuf-es and protovalidate. */
import { cpus } from "node:os";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import { readEntry } from "../gen/waymark/catalog/v1/entry_codec.ts";
import { EntrySchema, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import { decodeEntry, EntryStamper, finishEntry } from "../src/catalog/entry/codec.ts";
import { SCOPE } from "../src/catalog/entry/scope.ts";
import { readRegisteredMs } from "../src/catalog/entry/view.ts";
import { decodeRecord, encodeRecord } from "../src/catalog/record/codec.ts";
import { BODY } from "../src/catalog/record/record.ts";
import { Slab } from "../src/catalog/record/slab.ts";
import { TraitsPool } from "../src/catalog/record/traits.ts";
import { BOUNDS } from "../test/fakes/options.ts";

const WALL = 1_760_000_000_000;
const ENTRIES = 1000;
const ROUNDS = 200_000;
const stamp = { nodeId: "n1", clusterId: "c1", region: "eu", zone: "a", tenantId: "", receivedWallMs: WALL };
const times = { registeredWallMs: WALL, updatedWallMs: WALL, load: undefined };
const head = { seq: 5, hlc: WALL * 2048, reach: SCOPE.REGION, filterSeq: 5, firstSeq: 1, principal: "joe" };

const entries = Array.from({ length: ENTRIES }, (_, i) =>
  create(EntrySchema, {
    key: { namespace: "svc.market", name: "web", instanceId: `i-${i}` },
    scope: Scope.REGION,
    targets: [{ host: "10.0.0.1", port: 8080, protocol: "grpc", weight: 5 }],
    tags: ["blue", "v2"],
    capabilities: ["stream"],
    metadata: { team: "core" },
  }),
);
const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool() });
const wire = entries.map((entry) => toBinary(EntrySchema, entry));
const sealed = entries.map((entry) => finishEntry(stamper.entryOf(entry, 0, stamp).content, times));
const contentBytes = sealed.map((bytes) => readEntry(bytes).contentBytes);
const records = sealed.map((entry) => encodeRecord(head, { body: BODY.ENTRY, entry }));
const slab = new Slab();
const places = sealed.map((bytes) => slab.put(bytes));
const answer = new Uint8Array(65_536);
const validator = createValidator();

/** Best of five, in µs a call: on a shared machine the others measure the neighbours. */
function measure(call: (i: number) => unknown, rounds = ROUNDS): number {
  let best = Number.POSITIVE_INFINITY;
  for (let repeat = 0; repeat < 5; repeat++) {
    const start = performance.now();
    for (let i = 0; i < rounds; i++) call(i % ENTRIES);
    best = Math.min(best, ((performance.now() - start) * 1000) / rounds);
  }
  return Math.round(best * 1000) / 1000;
}

function at<T>(list: readonly T[], i: number): T {
  const item = list[i];
  if (item === undefined) throw new Error(`no item ${i}`);
  return item;
}

const us = {
  stamped: measure((i) => stamper.entryOf(at(entries, i), i, stamp)),
  draftAndSeal: measure((i) => finishEntry(stamper.entryOf(at(entries, i), i, stamp).content, times)),
  encodeRecord: measure((i) => encodeRecord(head, { body: BODY.ENTRY, entry: at(sealed, i) })),
  decodeRecord: measure((i) => decodeRecord(at(records, i), BOUNDS)),
  readRegisteredMs: measure((i) => readRegisteredMs(at(sealed, i), at(contentBytes, i))),
  entryOfStored: measure((i) => stamper.entryOfStored(at(sealed, i))),
  decodeEntry: measure((i) => decodeEntry(at(sealed, i), "live")),
  slabPutAndFree: measure((i) => slab.free(slab.put(at(sealed, i)), at(sealed, i).length)),
  slabCopy: measure((i) => slab.copyTo(at(places, i), at(sealed, i).length, answer, 0)),
  slabEquals: measure((i) => slab.equals(at(places, i), at(sealed, i).length, at(sealed, i))),
  protobufEsFromBinary: measure((i) => fromBinary(EntrySchema, at(wire, i))),
  protobufEsToBinary: measure((i) => toBinary(EntrySchema, at(entries, i))),
  protovalidate: measure((i) => validator.validate(EntrySchema, at(entries, i)), 5000),
};
console.error(
  Object.entries(us)
    .map(([name, cost]) => `${name.padEnd(22)} ${cost.toFixed(3)} µs`)
    .join("\n"),
);
console.log(
  JSON.stringify({
    bench: "codec",
    machine: cpus()[0]?.model,
    node: process.version,
    entryBytes: at(sealed, 0).length,
    us,
    draftsPerSecond: Math.round(1e6 / us.draftAndSeal),
  }),
);
