/** PeerService.Watch: the grammar of watches over members that a test writes down. */
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DiscoveryDelta_Action as Action } from "../../../gen/waymark/catalog/v1/delta_pb.js";
import { Snapshot } from "../../../gen/waymark/catalog/v1/watch_pb.js";
import {
  PeerServiceWatchRequestSchema,
  type PeerServiceWatchResponse,
  PeerServiceWatchResponseSchema,
} from "../../../gen/waymark/control/v1/peer_pb.js";
import { shortCursorText, shortHolder } from "../../../src/catalog/watch/cursor.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { requestCheckOf } from "../../../src/services/contract.ts";
import { peerService } from "../../../src/services/peers/peers.ts";
import type { StreamSource } from "../../../src/services/service.ts";
import { runs } from "../../fakes/effort.ts";
import { NO_OPERATIONS } from "../../fakes/peer-operations.ts";
import { FakeMembers, memberRow as row } from "../../fakes/watched-members.ts";

const TIME = { monoMs: 5000, wallMs: 1_760_000_005_000 };
const CONTEXT = { caller: anonymousCaller("c1", "127.0.0.1", ["mesh.read"]), time: TIME, requestId: "r" };

type Asked = MessageInitShape<typeof PeerServiceWatchRequestSchema>;

/** The service of one run of a node; `ticks` wakes what waits for time. */
function served(mesh: FakeMembers, boot = "b1") {
  const ticks = new Set<() => void>();
  const tick = (wake: () => void) => {
    ticks.add(wake);
    return () => ticks.delete(wake);
  };
  const identity = { nodeId: "n1", clusterId: "c1", region: "r1", boot };
  const { watch } = peerService({
    ...NO_OPERATIONS,
    source: mesh,
    identity,
    clusterKeys: () => [],
    checkCaughtUp: () => {},
    maxWatches: 100,
    tick,
  }).handlers;
  if (watch?.kind !== "server_streaming") throw new Error("watch is no stream");
  const open = (asked: Asked = {}): StreamSource => {
    const request = create(PeerServiceWatchRequestSchema, asked);
    requestCheckOf(PeerServiceWatchRequestSchema)(request);
    return watch.open(request as never, CONTEXT);
  };
  return { open, ticks };
}

/** What the stream has to tell at a time. */
function pulled(stream: StreamSource, time = TIME): readonly PeerServiceWatchResponse[] {
  const messages: PeerServiceWatchResponse[] = [];
  for (let bytes = stream.pull(time); bytes !== undefined; bytes = stream.pull(time))
    messages.push(fromBinary(PeerServiceWatchResponseSchema, bytes));
  return messages;
}

/** A message in one line: its part, each delta, what it counts. */
function lineOf({ snapshot, bookmark, deltas, count }: PeerServiceWatchResponse): string {
  const words = deltas.map(({ action, payload }) => {
    const nodeId = payload.case === "peer" ? payload.value.nodeId : payload.value;
    return `${Action[action]?.toLowerCase()} ${nodeId}`;
  });
  const part = snapshot === Snapshot.UNSPECIFIED ? (bookmark ? ["bookmark"] : []) : [Snapshot[snapshot]];
  return [...part, ...words, ...(count > 0n ? [`${count}`] : [])].join(" ");
}

const told = (stream: StreamSource, time = TIME) => pulled(stream, time).map(lineOf);
const cursorOf = (messages: readonly PeerServiceWatchResponse[]) => messages.findLast(({ cursor }) => cursor !== "")?.cursor ?? "";
const silent = () => {};

test("a watch is a snapshot, then what changes, each member as it is now", () => {
  const mesh = new FakeMembers(row("n1"), row("n2"), row("n3", { clusterId: "c2" }));
  const stream = served(mesh).open({ clusterId: "c1" });
  let wakes = 0;
  stream.attach(() => (wakes += 1), silent);
  const first = pulled(stream);
  expect(first.map(lineOf)).toEqual(["BEGIN", "CONTINUE create n1 create n2", "END 2"]);
  expect(first.map(({ servedBy, age }) => [servedBy, age !== undefined])).toEqual([
    ["n1", true],
    ["", false],
    ["n1", true],
  ]);
  const before = wakes;
  mesh.put(row("n2", { status: "suspect" }));
  mesh.put(row("n3", { clusterId: "c2", status: "dead" }));
  mesh.put(row("n2", { status: "dead" }));
  mesh.put(row("n4"));
  expect(wakes).toBe(before + 4);
  const [changes, ...none] = pulled(stream);
  expect([changes === undefined ? "" : lineOf(changes), none]).toEqual(["update n2 create n4", []]);
  expect(changes).toMatchObject({ deltas: [{ revision: 4n, sentAt: { seconds: 1_760_000_005n } }, { revision: 5n }], revision: 5n });
  mesh.drop("n2");
  mesh.put(row("n4", { clusterId: "c2" }));
  mesh.drop("n3");
  expect(told(stream)).toEqual(["remove n2 remove n4"]);
  stream.close();
  mesh.put(row("n5"));
  expect(wakes).toBe(before + 7);
});

test("a bookmark comes as often as asked for, and says how many members there are", () => {
  const on = served(new FakeMembers(row("n1")));
  const stream = on.open({ bookmarkInterval: { seconds: 2n } });
  stream.attach(silent, silent);
  expect(told(stream)).toEqual(["BEGIN", "CONTINUE create n1", "END 1"]);
  expect(told(stream, { ...TIME, monoMs: 6700 })).toEqual([]);
  expect(told(stream, { ...TIME, monoMs: 6900 })).toEqual(["bookmark 1"]);
  expect(told(stream, { ...TIME, monoMs: 8600 })).toEqual([]);
  expect(told(stream, { ...TIME, monoMs: 8700 })).toEqual(["bookmark 1"]);
  expect(on.ticks.size).toBe(1);
  stream.close();
  expect(on.ticks.size).toBe(0);
});

test("a reader that comes back with its cursor is told what changed meanwhile, and then that this is all", () => {
  const mesh = new FakeMembers(row("n1"), row("n2"), row("n3"));
  const on = served(mesh);
  const cursor = cursorOf(pulled(on.open()));
  mesh.drop("n2");
  mesh.put(row("n4"));
  const back = pulled(on.open({ cursor }));
  expect(back.map(lineOf)).toEqual(["remove n2 create n4", "bookmark 3"]);
  expect(told(on.open({ cursor: cursorOf(back) }))).toEqual(["bookmark 3"]);
});

const END = ["BEGIN", "CONTINUE create n1", "END 1"];

test.each([
  { what: "of another filter", asked: { region: "r1" }, boot: "b1" },
  { what: "of another run", asked: {}, boot: "b2" },
])("a cursor $what begins anew", ({ asked, boot }) => {
  const mesh = new FakeMembers(row("n1"));
  const cursor = cursorOf(pulled(served(mesh).open()));
  expect(told(served(mesh, boot).open({ ...asked, cursor }))).toEqual(END);
});

test("a cursor of the catalog, or of a place that is not reached yet, begins anew; what no node wrote is refused", () => {
  const on = served(new FakeMembers(row("n1")));
  const cursor = cursorOf(pulled(on.open()));
  const holder = cursor.split(".")[1] ?? "";
  expect(told(on.open({ cursor: shortCursorText(shortHolder("b1", "0123456789abcdef"), 1) }))).toEqual(END);
  expect(told(on.open({ cursor: shortCursorText(holder, 99) }))).toEqual(END);
  expect(() => on.open({ cursor: `${cursor}0` })).toThrow("cursor: is not a cursor");
  expect(() => on.open({ cursor: "x".repeat(65_537) })).toThrow("cursor: must have at most 65536 characters, got 65537");
  expect(() => on.open({ bookmarkInterval: { nanos: 5 } })).toThrow("bookmark_interval: must be from 1 s to 10 s, got 5e-9 s");
});

test("who is further behind than what is kept gets a snapshot, on an open stream too", () => {
  const mesh = new FakeMembers(row("n1"));
  const on = served(mesh);
  const stream = on.open();
  stream.attach(silent, silent);
  const cursor = cursorOf(pulled(stream));
  for (let i = 0; i < 10_000; i++) mesh.put(row("n1"));
  expect(told(on.open({ cursor }))).toEqual(["update n1", "bookmark 1"].map((line) => line.replace("update", "create")));
  mesh.put(row("n1"));
  expect(told(on.open({ cursor }))).toEqual(END);
  expect(told(stream)).toEqual(END);
});

test("messages stay within 16 KiB, whatever there is to tell", () => {
  const rows = Array.from({ length: 500 }, (_, i) => row(`node-${i}`, { labels: { rack: "x".repeat(60) } }));
  const mesh = new FakeMembers(...rows);
  const stream = served(mesh).open();
  stream.attach(silent, silent);
  const sizes: number[] = [];
  const count = () => {
    let deltas = 0;
    for (let bytes = stream.pull(TIME); bytes !== undefined; bytes = stream.pull(TIME)) {
      sizes.push(bytes.length);
      deltas += fromBinary(PeerServiceWatchResponseSchema, bytes).deltas.length;
    }
    return deltas;
  };
  expect(count()).toBe(500);
  for (const each of rows) mesh.put(each);
  expect(count()).toBe(500);
  expect(Math.max(...sizes)).toBeLessThan(16 * 1024);
  expect(sizes.length).toBeGreaterThan(8);
});

/** A reader as the grammar has it: it folds, and comes back with its last cursor when it is cut off. */
class Reader {
  readonly held = new Map<string, string>();
  #listed: Set<string> | undefined;
  cursor = "";
  isPlaced = false;

  fold({ deltas, snapshot, cursor, bookmark, count }: PeerServiceWatchResponse): void {
    if (snapshot === Snapshot.BEGIN) this.#listed = new Set();
    for (const { payload } of deltas) {
      if (payload.case === "peer") {
        this.held.set(payload.value.nodeId, `${payload.value.incarnation}`);
        this.#listed?.add(payload.value.nodeId);
      } else if (payload.case === "removed") this.held.delete(payload.value);
    }
    const isEnd = snapshot === Snapshot.END;
    if (isEnd) for (const nodeId of this.held.keys()) if (this.#listed?.has(nodeId) !== true) this.held.delete(nodeId);
    if (isEnd) this.#listed = undefined;
    if (cursor !== "") this.cursor = cursor;
    if (!isEnd && !bookmark) return;
    if (BigInt(this.held.size) !== count) throw new Error(`holds ${this.held.size} members where the node says ${count}`);
    this.isPlaced = true;
  }
}

const NODE = fc.constantFrom("n1", "n2", "n3", "n4", "n5");
const STEP = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("put" as const), nodeId: NODE, clusterId: fc.constantFrom("c1", "c2") }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("drop" as const), nodeId: NODE }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("pull" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("cut" as const) }) },
);

test("at the end of every snapshot and at every bookmark a reader holds what a list would say, however often it is cut off", () => {
  fc.assert(
    fc.property(fc.array(STEP, { maxLength: 40 }), fc.constantFrom("", "c1"), (steps, clusterId) => {
      const mesh = new FakeMembers(row("n1"), row("n2", { clusterId: "c2" }));
      const on = served(mesh);
      const reader = new Reader();
      let stream = on.open({ clusterId });
      stream.attach(silent, silent);
      let incarnation = 1;
      const reopen = () => {
        stream.close();
        stream = on.open({ clusterId, cursor: reader.cursor });
        stream.attach(silent, silent);
      };
      for (const step of steps) {
        if (step.kind === "put") mesh.put(row(step.nodeId, { clusterId: step.clusterId, incarnation: ++incarnation }));
        else if (step.kind === "drop") mesh.drop(step.nodeId);
        else if (step.kind === "cut") reopen();
        else {
          const bytes = stream.pull(TIME);
          if (bytes !== undefined) reader.fold(fromBinary(PeerServiceWatchResponseSchema, bytes));
        }
      }
      for (const message of pulled(stream, { ...TIME, monoMs: 60_000 })) reader.fold(message);
      const wanted = mesh.members().filter((each) => clusterId === "" || each.clusterId === clusterId);
      expect(Object.fromEntries(reader.held)).toEqual(Object.fromEntries(wanted.map((each) => [each.nodeId, `${each.incarnation}`])));
      expect(reader.isPlaced).toBe(true);
    }),
    { numRuns: runs(500) },
  );
});
