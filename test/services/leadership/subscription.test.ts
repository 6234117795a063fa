/** LeadershipService.Subscribe over the real leadership machine. */
import { create, fromBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  LeaderEventKind,
  LeadershipServiceSubscribeRequestSchema,
  type LeadershipServiceSubscribeResponse,
  LeadershipServiceSubscribeResponseSchema,
} from "../../../gen/waymark/control/v1/leadership_pb.js";
import { LEADERS } from "../../../src/control/leadership/records.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { requestCheckOf } from "../../../src/services/contract.ts";
import { leadershipService } from "../../../src/services/leadership/leadership.ts";
import type { StreamSource } from "../../../src/services/service.ts";
import { DrivenLeadership, DrivenStore, leaderRecord } from "../../fakes/driven-leadership.ts";
import { OPEN_GATE } from "../../fakes/peer-operations.ts";

const CONTEXT = { caller: anonymousCaller("c1", "127.0.0.1", ["mesh.read"]), time: { monoMs: 0, wallMs: 0 }, requestId: "r" };
const [A, B, OTHER] = ["custom/orders/a", "custom/orders/b", "shard/billing/7"];
const MAX_STREAMS = 3;

type Asked = MessageInitShape<typeof LeadershipServiceSubscribeRequestSchema>;

function service(source: DrivenLeadership) {
  const ticks = new Set<() => void>();
  const tick = (wake: () => void) => {
    ticks.add(wake);
    return () => ticks.delete(wake);
  };
  const parts = {
    source,
    servedBy: "n1",
    leaseMs: 3000,
    ownScopes: [],
    gate: OPEN_GATE,
    checkNamespace: () => {},
    maxSubscriptions: MAX_STREAMS,
    tick,
    onOperation: () => {},
  };
  const { subscribe } = leadershipService(parts).handlers;
  if (subscribe?.kind !== "server_streaming") throw new Error("subscribe is no stream");
  const open = (asked: Asked = {}, tenant = ""): StreamSource => {
    const request = create(LeadershipServiceSubscribeRequestSchema, asked);
    requestCheckOf(LeadershipServiceSubscribeRequestSchema)(request);
    return subscribe.open(request as never, { ...CONTEXT, caller: { ...CONTEXT.caller, tenant } });
  };
  return { open, ticks };
}

/** A stream whose reader reads each event as soon as the stream wakes it. */
function reading(source: DrivenLeadership, asked: Asked = {}) {
  const stream = service(source).open(asked);
  const read: LeadershipServiceSubscribeResponse[] = [];
  const pull = () => read.push(...pulled(stream));
  stream.attach(pull, () => {});
  pull();
  return { read, lines: () => read.splice(0).map(lineOf) };
}

function pulled(stream: StreamSource): readonly LeadershipServiceSubscribeResponse[] {
  const messages: LeadershipServiceSubscribeResponse[] = [];
  for (let bytes = stream.pull(CONTEXT.time); bytes !== undefined; bytes = stream.pull(CONTEXT.time))
    messages.push(fromBinary(LeadershipServiceSubscribeResponseSchema, bytes));
  return messages;
}

/** `ELECTED custom/orders/a n1 @5`; without an id, without the end. */
function lineOf({ kind, leader, id, detail }: LeadershipServiceSubscribeResponse): string {
  const subject = leader === undefined ? [] : [leader.scope, leader.holderId];
  return [LeaderEventKind[kind], ...subject, ...(detail === "" ? [] : [detail]), ...(id === 0n ? [] : [`@${id}`])].join(" ");
}

/** A store that holds leaders of other nodes, and a node that is no candidate. */
function observed(...scopes: readonly string[]) {
  const store = new DrivenStore();
  const node = new DrivenLeadership(store, "n1");
  if (scopes.length > 0) store.lead(...scopes.map((scope) => [scope, {}] as const));
  return { store, node };
}

const elect = (store: DrivenStore, scope: string, number: number) =>
  store.lead([scope, { session: `n9/${number}`, fence: { failoverVersion: 0, storeEpoch: 7, number } }]);

test("a stream is a snapshot of the leaders, then each change", () => {
  const { store, node } = observed(A, B);
  store.lead([OTHER, { session: "" }]);
  const { lines } = reading(node);
  expect(lines()).toEqual([`SNAPSHOT ${A} n9`, `SNAPSHOT ${B} n9 @${store.revision}`]);
  elect(store, OTHER, 50);
  store.lead([A, { session: "", reason: "the node stopped" }]);
  expect(lines()).toEqual([`ELECTED ${OTHER} n9 @${store.revision - 1}`, `STEPPED_DOWN ${A} n9 @${store.revision}`]);
  // A request to resign is no change of the leader, and neither is a record that cannot be read, because its scope counts as held.
  store.lead([B, { resign: "please" }]);
  store.transact([], [{ key: LEADERS + B, value: Buffer.from("?") }]);
  expect(lines()).toEqual([]);
});

test("a snapshot without leaders is one event without a leader", () => {
  const { store, node } = observed(A);
  expect(reading(node, { scopes: [B] }).lines()).toEqual([`SNAPSHOT @${store.revision}`]);
});

test("a node that has not read the store sends nothing until it has", () => {
  const store = new DrivenStore();
  store.lead([A, {}]);
  store.isAway = true;
  const node = new DrivenLeadership(store, "n1");
  const on = service(node);
  const stream = on.open({ afterId: BigInt(store.revision) });
  stream.attach(
    () => {},
    () => {},
  );
  expect([pulled(stream), on.ticks.size]).toEqual([[], 1]);
  store.isAway = false;
  node.reset(LEADERS);
  expect(pulled(stream)).toEqual([]);
  expect(pulled(on.open()).map(lineOf)).toEqual([`SNAPSHOT ${A} n9 @1`]);
  stream.close();
  expect(on.ticks.size).toBe(0);
});

test("a stream resumes on another node after the id of its last event", () => {
  const { store, node } = observed(A);
  const other = new DrivenLeadership(store, "n2");
  elect(store, B, 50);
  const { read } = reading(node);
  const { id = 0n } = read.at(-1) ?? {};
  elect(store, OTHER, 51);
  elect(store, B, 52);
  expect(reading(other, { afterId: id }).lines()).toEqual([
    `ELECTED ${OTHER} n9 @${store.revision - 1}`,
    `ELECTED ${B} n9 @${store.revision}`,
  ]);
  expect(reading(other, { afterId: BigInt(store.revision) }).lines()).toEqual([]);
});

test("an id that is too old, or that the node has not seen, gets a snapshot", () => {
  const { store } = observed(A, B);
  const snapshot = [`SNAPSHOT ${A} n9`, `SNAPSHOT ${B} n9 @${store.revision}`];
  const late = new DrivenLeadership(store, "n2");
  expect(reading(late, { afterId: 1n }).lines()).toEqual(snapshot);
  expect(reading(late, { afterId: BigInt(store.revision) + 1n }).lines()).toEqual(snapshot);
  expect(reading(late, { afterId: 2n ** 64n - 1n }).lines()).toEqual(snapshot);
});

test("a reader gets a new snapshot when its node was cut off from the store and cannot know every change", () => {
  const { store, node } = observed(A);
  const { lines } = reading(node);
  lines();
  store.isAway = true;
  elect(store, A, 50);
  elect(store, B, 51);
  store.isAway = false;
  node.reset(LEADERS);
  expect(lines()).toEqual([`SNAPSHOT ${A} n9`, `SNAPSHOT ${B} n9 @${store.revision}`]);
});

test("only the last event of a revision that the reader asked for has an id", () => {
  const { store, node } = observed(A);
  const all = reading(node);
  const some = reading(node, { scopes: ["custom/orders"] });
  for (const { lines } of [all, some]) lines();
  const elected = { session: "n9/2" };
  store.lead([A, elected], [B, elected], [OTHER, elected]);
  const id = `@${store.revision}`;
  expect(all.lines()).toEqual([`ELECTED ${A} n9`, `ELECTED ${B} n9`, `ELECTED ${OTHER} n9 ${id}`]);
  expect(some.lines()).toEqual([`ELECTED ${A} n9`, `ELECTED ${B} n9 ${id}`]);
});

test("a reader that is slow gets the events that the node keeps, or a snapshot", () => {
  const { store, node } = observed(A);
  const slow = service(node).open();
  slow.attach(
    () => {},
    () => {},
  );
  expect(pulled(slow)).toHaveLength(1);
  for (let number = 50; number < 1050; number++) elect(store, A, number);
  expect(pulled(slow)).toHaveLength(1000);
  for (let number = 1050; number < 2250; number++) elect(store, A, number);
  expect(pulled(slow).map(lineOf)).toEqual([`SNAPSHOT ${A} n9 @${store.revision}`]);
});

test("the end of a session, a lost scope and split brain are events without an id, the newest of each scope", () => {
  const store = new DrivenStore();
  const holder = new DrivenLeadership(store, "n1", [A]);
  const heir = new DrivenLeadership(store, "n2", [A]);
  const [ofHolder, ofHeir] = [reading(holder), reading(heir)];
  const slow = service(holder).open({ scopes: [A] });
  slow.attach(
    () => {},
    () => {},
  );
  for (const { lines } of [ofHolder, ofHeir]) lines();
  pulled(slow);
  // The heir ends the holder's session, which is late.
  const name = store.keys("sessions/n1/")[0] ?? "";
  store.transact([], [{ key: name, value: undefined }]);
  const elected = `ELECTED ${A} n2 @${store.versionOf(LEADERS + A)}`;
  expect(ofHeir.lines()).toEqual([`EXPIRED ${A} n1`, elected]);
  expect(ofHolder.lines()).toEqual([`EXPIRED ${A} n1`, elected, `LOST ${A} n1`]);
  for (let i = 0; i < 3; i++) holder.report({ kind: "split_brain", detail: `n${i} uses another store` });
  holder.report({ kind: "lost", scope: OTHER, leader: leaderRecord(), revision: 0 });
  expect(pulled(slow).map(lineOf)).toEqual([elected, `LOST ${A} n1`, "SPLIT_BRAIN n2 uses another store"]);
});

test("a reader that asks for renewals gets them from a node that is no candidate, and others do not", () => {
  const store = new DrivenStore();
  const holder = new DrivenLeadership(store, "n1", [A]);
  const observer = new DrivenLeadership(store, "n2");
  const [all, changes] = [reading(observer, { includeRenewed: true }), reading(observer)];
  for (const { lines } of [all, changes]) lines();
  store.pass(1100);
  expect(all.lines()).toEqual([`RENEWED ${A} n1`]);
  expect(changes.lines()).toEqual([]);
  expect(holder.machine.heldScopes(store.time)).toEqual([A]);
});

test("one caller cannot open all streams of a node, and a stream that ended gives its place to another", () => {
  const { open } = service(observed().node);
  const streams = [open({}, "acme"), open({}, "acme")];
  expect(() => open({}, "acme")).toThrow(/quota_exceeded: too many streams of leaders: tenant "acme" has 2 on this node/);
  open({}, "other");
  expect(() => open({}, "third")).toThrow(/tenant "third" has 0 on this node, and only 0 of 3 are free/);
  streams[1]?.close();
  open({}, "third");
});

test("a scope of a stream that is none is refused", () => {
  const { open } = service(observed().node);
  expect(() => open({ scopes: [A, "orders/a"] })).toThrow(/^invalid_argument: scopes\[1\]: "orders\/a" must be global-control/);
});
