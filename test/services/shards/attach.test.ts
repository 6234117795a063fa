/** ShardService.Attach over a source that only records the messages of owners. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  OwnedShardState,
  type ShardServiceAttachRequest,
  ShardServiceAttachRequestSchema,
  type ShardServiceAttachResponse,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { anonymousCaller, type Caller } from "../../../src/policy/identity/caller.ts";
import { requestCheckOf } from "../../../src/services/contract.ts";
import type { AnswerSink, RequestListener } from "../../../src/services/service.ts";
import { type AttachParts, attachHandler, type OwnerEntry } from "../../../src/services/shards/attach.ts";
import { KeptShards } from "../../fakes/kept-shards.ts";
import { OPEN_GATE } from "../../fakes/peer-operations.ts";

const ANN: Caller = { ...anonymousCaller("c1", "127.0.0.1", []), principal: "spiffe://ann" };
const ENTRY: OwnerEntry = { principal: "spiffe://ann", target: "10.0.0.7:80", weight: 3, zone: "eu-1a", region: "eu", health: "healthy" };
const check = requestCheckOf(ShardServiceAttachRequestSchema);

function served(parts: Partial<AttachParts> = {}) {
  const source = new KeptShards();
  source.apply("orders");
  const entries = new Map([["orders/worker/a", ENTRY]]);
  const handler = attachHandler({
    source,
    leaseMs: 3000,
    gate: OPEN_GATE,
    checkNamespace: () => {},
    entryOf: (namespace, service, instance) => entries.get(`${namespace}/${service}/${instance}`),
    ...parts,
  });
  if (handler.kind !== "bidi_streaming") throw new Error("Attach is no stream");
  const { open } = handler;
  return { source, entries, handler, open: (caller: Caller = ANN) => new PlayedOwner(open as never, caller) };
}

type Open = (answers: AnswerSink<ShardServiceAttachResponse>, context: object) => RequestListener<ShardServiceAttachRequest>;

class PlayedOwner {
  readonly answers: ShardServiceAttachResponse[] = [];
  /** How the stream ended: `end`, or its error. */
  ended: string | undefined;
  isPaused = false;
  isRoomy = true;
  goOn = () => {};
  readonly #listener: RequestListener<ShardServiceAttachRequest>;

  constructor(open: Open, caller: Caller) {
    const sink: AnswerSink<ShardServiceAttachResponse> = {
      send: (answer) => {
        if (!(answer instanceof Uint8Array)) this.answers.push(answer);
        return this.isRoomy;
      },
      onceRoomy: (goOn) => {
        this.goOn = goOn;
      },
      pause: () => {
        this.isPaused = true;
      },
      resume: () => {
        this.isPaused = false;
      },
      end: () => this.close("end"),
      fail: (thrown) => this.close(thrown instanceof WaymarkError ? thrown.reason : String(thrown)),
    };
    this.#listener = open(sink, { caller, time: { monoMs: 0, wallMs: 0 }, requestId: "r" });
  }

  send(init: MessageInitShape<typeof ShardServiceAttachRequestSchema> = {}): this {
    try {
      const request = create(ShardServiceAttachRequestSchema, init);
      check(request);
      this.#listener.message(request, { monoMs: 0, wallMs: 0 });
    } catch (error) {
      this.close(error instanceof WaymarkError ? error.message : String(error));
    }
    return this;
  }

  attach(init: MessageInitShape<typeof ShardServiceAttachRequestSchema> = {}): this {
    return this.send({ namespace: "orders", instance: "a", ...init });
  }

  halfClose(): void {
    this.#listener.halfClosed();
  }

  leave(): void {
    this.#listener.leave(new WaymarkError("draining", "this node is stopping"));
  }

  close(how: string): void {
    if (this.ended !== undefined) return;
    this.ended = how;
    this.#listener.close();
  }
}

const ENDED = (hasStopped: boolean) => ({ kind: "ownerEnded", hasStopped });

test("each message becomes an input with the facts of the entry; slots and weight are those of the first message", () => {
  const { source, open } = served();
  const owner = open().attach({ slots: 50, loads: [{ id: 3, depth: 7n, rate: 0.5 }] });
  owner.send({ slots: 9, weight: 9, prepared: [1, 2], dropped: [3], leaving: true });
  open().attach({ weight: 0.5 });
  const { target, zone, region } = ENTRY;
  const common = { kind: "owner", namespace: "orders", instance: "a" };
  const facts = { target, zone, region, weight: 3, slots: 50, isLeaving: false };
  expect(source.inputs).toMatchObject([
    { ...common, facts, prepared: [], dropped: [] },
    { ...common, facts: { ...facts, isLeaving: true }, prepared: [1, 2], dropped: [3] },
    { ...common, facts: { ...facts, slots: 0, weight: 0.5 } },
  ]);
  expect(owner.ended).toBeUndefined();
});

test("news are answers with the time of the last message, and with each state of a shard", () => {
  const { source, open } = served();
  const owner = open().attach({ sentMs: 77n });
  source.answer({ waitsFor: "n2 still has the session of this owner" });
  expect(owner.answers[0]).toMatchObject({
    sentMs: 77n,
    waitsFor: "n2 still has the session of this owner",
    shards: [],
    serveOnStoreLoss: false,
  });
  expect([owner.answers[0]?.validFor, owner.answers[0]?.heartbeatInterval].map((each) => each && durationMs(each))).toEqual([0, 1000]);
  const fence = { failoverVersion: 0, storeEpoch: 7, number: 41 };
  const states = ["preparing", "owned", "paused", "draining", "lost", "released"] as const;
  source.apply("orders", { onStoreLoss: "serve" });
  owner.send({ sentMs: 78n });
  const shards = states.map((state, id) => ({
    id,
    state,
    fence: state === "preparing" || state === "released" ? undefined : fence,
    epoch: 5,
    isThrottled: false,
  }));
  source.answer({ validForMs: 2750.5, shards });
  const answer = owner.answers[1];
  expect(answer).toMatchObject({ sentMs: 78n, serveOnStoreLoss: true });
  expect(answer?.validFor && durationMs(answer.validFor)).toBe(2750);
  expect(answer?.shards.map((shard) => [shard.id, OwnedShardState[shard.state], shard.fence?.number, shard.epoch])).toEqual([
    [0, "PREPARING", undefined, 5n],
    [1, "OWNED", 41n, 5n],
    [2, "PAUSED", 41n, 5n],
    [3, "DRAINING", 41n, 5n],
    [4, "LOST", 41n, 5n],
    [5, "RELEASED", undefined, 5n],
  ]);
});

test.each([
  { init: { namespace: "" }, want: /^invalid_argument: namespace: is required in the first message/ },
  { init: { instance: "" }, want: /^invalid_argument: instance: is required in the first message/ },
  { init: { namespace: "Orders" }, want: /^invalid_argument: namespace/ },
  { init: { weight: -1 }, want: /^invalid_argument: weight/ },
  { init: { weight: 0.0001 }, want: /^invalid_argument: weight: must be 0, or 0.001 to 1000/ },
  { init: { weight: 1001 }, want: /^invalid_argument: weight/ },
  { init: { prepared: [10_000] }, want: /^invalid_argument: prepared\[0\]/ },
  { init: { dropped: [0, 10_000] }, want: /^invalid_argument: dropped\[1\]/ },
  { init: { dropped: Array.from({ length: 10_001 }, () => 0) }, want: /^invalid_argument: dropped/ },
  { init: { loads: [{ errorRatio: 1.5 }] }, want: /^invalid_argument: loads\[0\].error_ratio/ },
  { init: { namespace: "billing" }, want: /^not_found: namespace billing has no shards/ },
  {
    init: { instance: "b" },
    want: /^not_found: this node knows no instance b of orders\/worker: register it first; if it was registered on another node/,
  },
])("rejects the first message with $init", ({ init, want }) => {
  const { source, open } = served();
  const owner = open().attach(init);
  expect(owner.ended).toMatch(want);
  expect(source.inputs).toEqual([]);
});

test("an instance that another principal has registered is refused, also when it is registered later", () => {
  const { source, entries, open } = served();
  const foreign = /^invalid_argument: instance: a of orders\/worker was registered by another principal/;
  expect(open({ ...ANN, principal: "spiffe://bob" }).attach().ended).toMatch(foreign);
  expect(open({ ...ANN, principal: "" }).attach().ended).toMatch(foreign);
  const owner = open().attach();
  entries.set("orders/worker/a", { ...ENTRY, principal: "spiffe://bob" });
  expect(owner.send().ended).toMatch(foreign);
  expect(source.inputs).toMatchObject([{ kind: "owner" }, ENDED(false)]);
});

test("an attached owner continues when the node loses sight of its entry, and follows changes of the entry", () => {
  const { source, entries, open } = served();
  const owner = open().attach();
  entries.set("orders/worker/a", { ...ENTRY, target: "10.0.0.8:80" });
  owner.send();
  entries.clear();
  owner.send();
  expect(owner.ended).toBeUndefined();
  const targets = source.inputs.map((input) => (input.kind === "owner" ? input.facts.target : input.kind));
  expect(targets).toEqual(["10.0.0.7:80", "10.0.0.8:80", "10.0.0.8:80"]);
});

test("an owner that comes from another node attaches with the facts of its record, until this node knows its entry", () => {
  const { source, entries, open } = served();
  entries.clear();
  const { target, zone, principal } = ENTRY;
  source.own("orders", "a", { target, zone, principal });
  expect(open({ ...ANN, principal: "spiffe://bob" }).attach().ended).toMatch(/was registered by another principal/);
  open().attach();
  expect(source.inputs).toMatchObject([{ kind: "owner", facts: { target, zone, principal } }]);
});

test("a stream is for one instance, and the policy is asked in each message, because it can change", () => {
  const asked: string[] = [];
  let isDenied = false;
  const { open } = served({
    checkNamespace: (caller, namespace, field) => {
      asked.push(`${caller.principal} ${namespace} ${field}`);
      if (isDenied) throw new WaymarkError("discovery_access_denied", "permission denied");
    },
  });
  expect(open().attach().send({ namespace: "billing" }).ended).toMatch(/^invalid_argument: namespace: must be orders, as in the first/);
  expect(open().attach().send({ instance: "b" }).ended).toMatch(/^invalid_argument: instance: must be a, as in the first/);
  const owner = open().attach().attach();
  isDenied = true;
  expect(owner.send().ended).toBe("discovery_access_denied: permission denied");
  expect(asked.slice(-3)).toEqual(Array.from({ length: 3 }, () => "spiffe://ann orders namespace"));
});

test("detach frees the shards and ends the stream; a broken, half-closed or drained stream lets the owner act until its validity is over", () => {
  const { source, open } = served();
  const ends = [
    (owner: PlayedOwner) => owner.send({ detach: true }).send(),
    (owner: PlayedOwner) => owner.close("broken"),
    (owner: PlayedOwner) => owner.halfClose(),
    (owner: PlayedOwner) => owner.leave(),
  ];
  const ended = ends.map((end) => {
    source.inputs.length = 0;
    const owner = open().attach();
    end(owner);
    return [owner.ended, source.inputs.slice(1)];
  });
  expect(ended).toMatchObject([
    ["end", [ENDED(true)]],
    ["broken", [ENDED(false)]],
    ["end", [ENDED(false)]],
    ["draining", [ENDED(false)]],
  ]);
  open().close("broken");
  expect(source.inputs).toHaveLength(2);
});

test("an owner that does not read its answers sends no further heartbeats", () => {
  const { source, open } = served();
  const owner = open().attach();
  owner.isRoomy = false;
  source.answer();
  expect(owner.isPaused).toBe(true);
  owner.goOn();
  expect(owner.isPaused).toBe(false);
});

test("a set has at most 1000 owners, and those that it has can attach again", () => {
  const { source, entries, open } = served();
  for (let i = 0; i < 999; i++) source.own("orders", `o${i}`);
  source.own("orders", "a");
  entries.set("orders/worker/b", ENTRY);
  expect(open().attach({ instance: "b" }).ended).toBe("quota_exceeded: the shards of orders have 1000 owners, and the maximum is 1000");
  expect(open().attach().ended).toBeUndefined();
});

test("one caller has at most half of the owners of a node", () => {
  const { open } = served();
  for (let i = 0; i < 500; i++) open().attach();
  expect(open().attach().ended).toMatch(/^quota_exceeded: too many attached owners/);
});

test("a node with read workers accepts no owners", () => {
  const { handler } = served();
  expect(() => handler.kind === "bidi_streaming" && handler.answerOne?.({} as never, {} as never)).toThrow("unimplemented");
});
