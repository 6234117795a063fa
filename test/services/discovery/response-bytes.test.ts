/** Answers put together from kept bytes are what protobuf-es reads. */
import { fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { CatalogWatchResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { readShown } from "../../../src/catalog/entry/view.ts";
import { ACTION, type FeedMessage, SNAPSHOT, type WatchChange } from "../../../src/catalog/watch/reader.ts";
import { DiscoveryBytes } from "../../../src/services/discovery/response-bytes.ts";
import { NEW } from "../../fakes/ages.ts";
import { at, caller, command, keyOf, Registry, stamped } from "../../fakes/registry.ts";

function message(changes: readonly WatchChange[]): FeedMessage {
  const none = { portableCursor: "", snapshot: SNAPSHOT.NONE, replaces: [], isBookmark: false, digest: undefined, encoded: undefined };
  return { ...none, changes, revision: 7, cursor: "here" };
}

test("readers with differing filters are told the same bytes of a change, as it is at the time", () => {
  const registry = new Registry();
  const put = (tag: string, ms: number) => {
    registry.registrar.register(caller("joe"), command([stamped("web", { tags: [tag] })]), at(ms));
    registry.flush(at(ms));
    return { action: ACTION.UPDATE, record: registry.replica.view(keyOf("web"))!, revision: registry.replica.revision };
  };
  const bytes = new DiscoveryBytes(registry.replica.slab, { of: () => undefined });
  const told = (changes: readonly WatchChange[], sentWallMs: number, isNamesOnly = false) => {
    const options = { isNamesOnly, sentWallMs, servedBy: "a", age: NEW };
    const { deltas } = fromBinary(CatalogWatchResponseSchema, bytes.watch(message(changes), options));
    return deltas.map(({ payload, revision, sentAt }) => [payload.case === "entry" && payload.value.tags[0], revision, sentAt?.nanos]);
  };
  const first = put("blue", 0);
  expect([told([first], 1), told([first, first], 1), told([first], 2)]).toEqual([
    [["blue", 1n, 1_000_000]],
    [
      ["blue", 1n, 1_000_000],
      ["blue", 1n, 1_000_000],
    ],
    [["blue", 1n, 2_000_000]],
  ]);
  expect([told([first], 3, true), told([first], 3), told([first], 3, true)]).toEqual([
    [[undefined, 1n, 3_000_000]],
    [["blue", 1n, 3_000_000]],
    [[undefined, 1n, 3_000_000]],
  ]);
  const second = put("green", 1);
  expect([told([second], 3), told([{ ...second, action: ACTION.REMOVE }], 3)]).toEqual([
    [["green", 2n, 3_000_000]],
    [[false, 2n, 3_000_000]],
  ]);
});

test.each([{ isNamesOnly: false }, { isNamesOnly: true }])(
  "a delta carries the entry, or only its key when names only are asked: $isNamesOnly",
  ({ isNamesOnly }) => {
    const registry = new Registry();
    registry.registrar.register(caller("joe"), command([stamped("web", { tags: ["blue"] })]), at(0));
    registry.flush(at(0));
    const { replica } = registry;
    const record = replica.view(keyOf("web"));
    if (record === undefined) throw new Error("not registered");
    const bytes = new DiscoveryBytes(replica.slab, { of: () => undefined });
    const changes = [
      { action: ACTION.CREATE, record, revision: 7 },
      { action: ACTION.REMOVE, record, revision: 7 },
    ];
    const read = fromBinary(
      CatalogWatchResponseSchema,
      bytes.watch(message(changes), { isNamesOnly, sentWallMs: 1_500, servedBy: "a", age: NEW }),
    );
    expect(read).toMatchObject({ revision: 7n, cursor: "here" });
    const [put, removed] = read.deltas;
    const key = { namespace: "svc", name: "web", instanceId: "1", clusterId: "c1" };
    expect(put?.payload).toMatchObject({ case: "entry", value: { key, tags: isNamesOnly ? [] : ["blue"] } });
    expect(put?.sentAt).toMatchObject({ seconds: 1n, nanos: 500_000_000 });
    expect(removed?.payload).toMatchObject({ case: "removed", value: key });
  },
);

test.each([
  ["the beginning of a snapshot", { snapshot: SNAPSHOT.BEGIN }, true],
  ["the end of a snapshot without a portable cursor, as a resolver may have it", { snapshot: SNAPSHOT.END }, true],
  ["a bookmark without a portable cursor", { isBookmark: true }, true],
  ["a delta", {}, false],
])("who speaks, and how old the data is: %s", (_, part, isTold) => {
  const bytes = new DiscoveryBytes(new Registry().replica.slab, { of: () => undefined });
  const options = { isNamesOnly: false, sentWallMs: 1, servedBy: "edge", age: { ...NEW, ageMs: 1500, isStale: true } };
  const { servedBy, age, stale } = fromBinary(CatalogWatchResponseSchema, bytes.watch({ ...message([]), ...part }, options));
  expect({ servedBy, seconds: age?.seconds, stale }).toEqual(
    isTold ? { servedBy: "edge", seconds: 1n, stale: true } : { servedBy: "", seconds: undefined, stale: false },
  );
});

test.each([
  { health: HealthStatus.HEALTHY, life: "live", client: HealthStatus.HEALTHY, resolver: HealthStatus.HEALTHY },
  { health: HealthStatus.HEALTHY, life: "orphaned", client: HealthStatus.ORPHANED, resolver: HealthStatus.ORPHANED },
  { health: HealthStatus.MAINTENANCE, life: "live", client: HealthStatus.MAINTENANCE, resolver: HealthStatus.MAINTENANCE },
  { health: HealthStatus.MAINTENANCE, life: "orphaned", client: HealthStatus.MAINTENANCE, resolver: HealthStatus.ORPHANED },
] as const)(
  "an entry of health $health whose origin is $life shows $client to clients and $resolver to a resolver, which is told of origins",
  (row) => {
    const registry = new Registry();
    registry.registrar.register(caller("joe"), command([stamped("web", { health: row.health })]), at(0));
    registry.flush(at(0));
    const { replica } = registry;
    replica.setLife(replica.self, row.life);
    const record = replica.view(keyOf("web"))!;
    const bytes = new DiscoveryBytes(replica.slab, { of: () => undefined });
    const change = { action: ACTION.UPDATE, record, revision: 1 };
    const told = (resolved: { readonly policyEpoch: string; readonly via: readonly string[] } | undefined) => {
      const options = { isNamesOnly: false, sentWallMs: 1, servedBy: "a", age: NEW, resolved };
      const { deltas } = fromBinary(CatalogWatchResponseSchema, bytes.watch(message([change]), options));
      return deltas[0]?.payload.case === "entry" ? deltas[0].payload.value.health : undefined;
    };
    // In both orders, because readers with other filters share deltas.
    for (let round = 0; round < 2; round++) {
      expect(told(undefined)).toBe(row.client);
      expect(told({ policyEpoch: "", via: [] })).toBe(row.resolver);
    }
    expect(readShown(bytes.entry(record)).isOrphaned).toBe(row.client === HealthStatus.ORPHANED);
  },
);
