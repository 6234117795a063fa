/** LeadershipService.Campaign over the real leadership machine. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  CampaignState,
  type LeadershipServiceCampaignRequest,
  LeadershipServiceCampaignRequestSchema,
  type LeadershipServiceCampaignResponse,
} from "../../../gen/waymark/control/v1/leadership_pb.js";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { anonymousCaller, type Caller } from "../../../src/policy/identity/caller.ts";
import { requestCheckOf } from "../../../src/services/contract.ts";
import { type CampaignParts, campaignHandler } from "../../../src/services/leadership/campaign.ts";
import type { AnswerSink, MethodHandler, RequestListener } from "../../../src/services/service.ts";
import { DrivenLeadership, DrivenStore } from "../../fakes/driven-leadership.ts";
import { OPEN_GATE } from "../../fakes/peer-operations.ts";

const SCOPE = "custom/orders/cleaner";
const ANONYMOUS = anonymousCaller("c1", "127.0.0.1", []);
const DRAINING = new WaymarkError("draining", "this node is stopping");
const check = requestCheckOf(LeadershipServiceCampaignRequestSchema);

/** A node, and streams of programs on it. */
function served(options: Partial<CampaignParts> = {}) {
  const store = new DrivenStore();
  const node = new DrivenLeadership(store, "n1");
  const parts: CampaignParts = {
    gate: OPEN_GATE,
    source: node,
    servedBy: "n1",
    leaseMs: 3000,
    ownScopes: [],
    checkNamespace: () => {},
    ...options,
  };
  const handler = campaignHandler(parts);
  const open = (caller: Caller = ANONYMOUS) => new PlayedProgram(handler, caller, store);
  return { store, node, open };
}

class PlayedProgram {
  readonly answers: LeadershipServiceCampaignResponse[] = [];
  /** How the stream ended: `end`, or the reason of its error. */
  ended: string | undefined;
  isPaused = false;
  isRoomy = true;
  goOn = () => {};
  readonly #store: DrivenStore;
  readonly #listener: RequestListener<LeadershipServiceCampaignRequest>;

  constructor(handler: MethodHandler, caller: Caller, store: DrivenStore) {
    this.#store = store;
    const sink: AnswerSink<LeadershipServiceCampaignResponse> = {
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
      end: () => this.#end("end"),
      fail: (thrown) => this.#end(thrown instanceof WaymarkError ? thrown.reason : String(thrown)),
    };
    if (handler.kind !== "bidi_streaming") throw new Error("Campaign is no stream");
    this.#listener = handler.open(sink, { caller, time: store.time, requestId: "r" });
  }

  get isLeader(): boolean {
    return this.answers.at(-1)?.state === CampaignState.LEADER;
  }

  send(init: MessageInitShape<typeof LeadershipServiceCampaignRequestSchema> = {}): this {
    try {
      const request = create(LeadershipServiceCampaignRequestSchema, init);
      check(request);
      this.#listener.message(request, this.#store.time);
    } catch (error) {
      this.#end(error instanceof WaymarkError ? error.message : String(error));
    }
    return this;
  }

  halfClose(): void {
    this.#listener.halfClosed();
  }

  leave(): void {
    this.#listener.leave(DRAINING);
  }

  /** The connection breaks. */
  break(): void {
    this.#end("broken");
  }

  #end(how: string): void {
    if (this.ended !== undefined) return;
    this.ended = how;
    this.#listener.close();
  }
}

test("a message is answered with the state, the fence and the time for which it is valid; the answer returns the time of the message", () => {
  const { open, store, node } = served();
  const program = open().send({ scope: SCOPE, holderId: "p1", sentMs: 77n });
  expect(program.answers[0]).toMatchObject({ state: CampaignState.CANDIDATE, holderId: "p1", sentMs: 77n, term: 0n });
  const { answers } = program;
  const number = node.machine.held(SCOPE, store.time)?.leader.fence.number ?? expect.fail("the node leads");
  const fence = { failoverVersion: 0n, storeEpoch: BigInt(node.machine.store?.epoch ?? 0), number: BigInt(number) };
  expect(answers[1]).toMatchObject({ state: CampaignState.LEADER, holderId: "p1", sentMs: 77n, term: 1n, fence });
  expect(answers[1]?.validFor && durationMs(answers[1].validFor)).toBe(2750);
  expect(answers[1]?.heartbeatInterval && durationMs(answers[1].heartbeatInterval)).toBe(1000);
  program.send({ sentMs: 78n });
  expect(answers[2]).toMatchObject({ state: CampaignState.LEADER, sentMs: 78n, fence });
});

test.each([
  { init: {}, want: /^invalid_argument: scope/ },
  { init: { scope: "orders" }, want: /^invalid_argument: scope/ },
  { init: { scope: "global-control" }, want: /^invalid_argument: scope: global-control is led by nodes/ },
  { init: { scope: "shard/orders/7" }, want: /^invalid_argument: scope: shard\/orders\/7 is led by nodes/ },
  { init: { scope: "custom/orders/own" }, want: /^invalid_argument: scope: custom\/orders\/own is in leadership.scopes/ },
  { init: { scope: SCOPE, holderId: "n1" }, want: /^invalid_argument: holder_id: is the id of this node/ },
  { init: { scope: SCOPE, holderId: "a b" }, want: /^invalid_argument: holder_id/ },
  { init: { scope: SCOPE, holderId: "x".repeat(257) }, want: /^invalid_argument: holder_id/ },
])("rejects the first message $init", ({ init, want }) => {
  const { open, node } = served({ ownScopes: ["custom/orders/own"] });
  const program = open().send(init);
  expect(program.ended).toMatch(want);
  expect([program.answers, node.machine.leaders.size]).toEqual([[], 0]);
});

test("the policy is asked for the namespace of the scope in each message, because it can change", () => {
  const asked: string[] = [];
  let isDenied = false;
  const { open } = served({
    checkNamespace: (caller, namespace, field) => {
      asked.push(`${caller.principal} ${namespace} ${field}`);
      if (isDenied) throw new WaymarkError("discovery_access_denied", "permission denied");
    },
  });
  const program = open({ ...ANONYMOUS, principal: "spiffe://ann" }).send({ scope: "custom/svc.orders/cleaner" });
  expect(program.isLeader).toBe(true);
  isDenied = true;
  program.send();
  expect(program.ended).toBe("discovery_access_denied: permission denied");
  expect(asked).toEqual(["spiffe://ann svc.orders scope", "spiffe://ann svc.orders scope"]);
});

test.each([
  { principal: "spiffe://ann", holderId: "p1", want: /^p1$/ },
  { principal: "spiffe://ann", holderId: "", want: /^spiffe:\/\/ann$/ },
  { principal: "", holderId: "", want: /^program-[0-9a-f]{8}$/ },
  { principal: "x".repeat(2000), holderId: "", want: /^x{256}$/ },
])("$want is the name of a program with the principal $principal and holder_id $holderId", ({ principal, holderId, want }) => {
  const { open, node } = served();
  open({ ...ANONYMOUS, principal }).send({ scope: SCOPE, holderId });
  expect(node.machine.leaders.get(SCOPE)?.holderId).toMatch(want);
});

test("a stream is for one scope", () => {
  const { open } = served();
  const program = open().send({ scope: SCOPE });
  program.send({ scope: SCOPE }).send();
  expect(program.ended).toBeUndefined();
  program.send({ scope: "custom/orders/index" });
  expect(program.ended).toMatch(/^invalid_argument: scope: must be custom\/orders\/cleaner/);
});

test("resign frees the scope immediately and ends the stream; a broken or half-closed stream frees it when the last grant is over", () => {
  const { open, store } = served();
  const [ann, bob, eve] = [open().send({ scope: SCOPE }), open().send({ scope: SCOPE }), open().send({ scope: SCOPE })];
  ann.send({ resign: true });
  expect([ann.ended, bob.isLeader]).toEqual(["end", true]);
  bob.break();
  store.pass(2999);
  eve.send();
  expect(eve.isLeader).toBe(false);
  store.pass(1);
  expect(eve.isLeader).toBe(true);
  eve.halfClose();
  expect(eve.ended).toBe("end");
});

test("a draining node rejects candidates immediately, and gives a leader the time to resign", () => {
  const { open, node } = served();
  const [ann, bob, eve] = [open().send({ scope: SCOPE }), open().send({ scope: SCOPE }), open()];
  for (const each of [ann, bob, eve]) each.leave();
  expect([bob.ended, eve.ended, ann.ended]).toEqual(["draining", "draining", undefined]);
  expect(ann.answers.at(-1)?.state).toBe(CampaignState.CANDIDATE);
  const isHeld = () => node.machine.leaders.has(SCOPE);
  ann.send({ sentMs: 9n });
  expect(ann.answers.at(-1)).toMatchObject({ state: CampaignState.CANDIDATE, sentMs: 9n });
  expect(isHeld()).toBe(true);
  ann.send({ resign: true });
  expect([ann.ended, isHeld()]).toEqual(["end", false]);
});

test("a program that does not read its answers sends no further heartbeats", () => {
  const { open } = served();
  const program = open();
  program.isRoomy = false;
  program.send({ scope: SCOPE });
  expect(program.isPaused).toBe(true);
  program.goOn();
  expect(program.isPaused).toBe(false);
});

test("one caller has at most half of the campaigns of a node, and other callers can still begin theirs", () => {
  const { open } = served();
  const acme = { ...ANONYMOUS, tenant: "acme" };
  const programs = Array.from({ length: 500 }, () => open(acme).send({ scope: SCOPE }));
  const refused = /^quota_exceeded: too many campaigns: tenant "acme" has 500 on this node, and only 500 of 1000 are free/;
  expect(open(acme).send({ scope: SCOPE }).ended).toMatch(refused);
  const other = open({ ...ANONYMOUS, tenant: "other" }).send({ scope: "custom/billing/cleaner" });
  expect([other.isLeader, other.ended]).toEqual([true, undefined]);
  programs[7]?.break();
  expect(open(acme).send({ scope: SCOPE }).ended).toBeUndefined();
});

test("a stream does not count as a campaign before its first permitted message", () => {
  let isDenied = true;
  const checkNamespace = () => {
    if (isDenied) throw new WaymarkError("discovery_access_denied", "permission denied");
  };
  const { open } = served({ checkNamespace });
  for (let at = 0; at < 600; at++) open();
  for (let at = 0; at < 600; at++) open().send({ scope: SCOPE });
  isDenied = false;
  expect(open().send({ scope: SCOPE }).isLeader).toBe(true);
});
