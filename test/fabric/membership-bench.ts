/** One `Membership` machine and the hands that carry its calls: what it is told, what it asks of whom, and what it believes then. */
import { Membership } from "../../src/fabric/membership/membership.ts";
import type { MembershipOptions } from "../../src/fabric/membership/options.ts";
import type {
  FabricCallRequest,
  FabricCallResponse,
  MemberFacts,
  MemberUpdate,
  NodeRef,
  PeerIdentity,
  ProcessInstance,
} from "../../src/fabric/wire/messages.ts";
import { NEVER, type Time } from "../../src/lib/machine.ts";
import { Rng } from "../../src/lib/rng.ts";
import { nodeRef } from "../fakes/fabric-values.ts";
import { MEMBERSHIP_OPTIONS } from "../fakes/options.ts";
import { factsOf } from "./membership-world.ts";

export type Output = Parameters<Membership["handle"]>[2][number];
type Input = Parameters<Membership["handle"]>[0];
export type Call = Extract<Output, { readonly kind: "call" }> & { readonly atMs: number };

const PROOF: PeerIdentity = { address: "127.0.0.1:9", isLoopback: true, certificate: undefined, clusterToken: "" };

export interface BenchSpec {
  readonly facts?: MemberFacts;
  readonly options?: Partial<MembershipOptions>;
  readonly parts?: ConstructorParameters<typeof Membership>[3];
  /** The wall clock at the start. */
  readonly wallMs?: number;
  /** Probes wait for the test to answer them. */
  readonly isSilent?: boolean;
}

/** Who tells: in a probe, in a table that it exchanges; `clusterId` as it says itself. */
export interface Telling {
  readonly from?: string;
  readonly path?: "gossip" | "table";
  readonly clusterId?: string;
}

export class MemberBench {
  readonly machine: Membership;
  readonly outputs: Output[] = [];
  nowMs = 0;
  /** How far the wall clock is ahead of the other. */
  aheadMs: number;
  /** What probes are answered at once; undefined: they wait in `probes`. */
  onProbe: (call: Call) => FabricCallResponse | undefined = answerAs;
  readonly probes: Call[] = [];
  readonly #name: string;

  constructor({ facts = factsOf("self"), options = {}, parts, wallMs = 1000, isSilent = false }: BenchSpec = {}) {
    if (isSilent) this.onProbe = () => undefined;
    this.#name = facts.nodeId;
    this.machine = new Membership(facts, new Rng("bench"), { ...MEMBERSHIP_OPTIONS, ...options }, parts);
    this.aheadMs = wallMs;
    this.give({ kind: "tick" });
  }

  time(monoMs = this.nowMs): Time {
    return { monoMs, wallMs: this.aheadMs + monoMs };
  }

  get self(): MemberUpdate {
    return this.held(this.#name) ?? fail("a node knows itself");
  }

  held(nodeId: string): MemberUpdate | undefined {
    return this.machine.find(nodeId);
  }

  /** Returns all outputs but probes that were answered, and what that led to. */
  give(input: Input, atMs = this.nowMs): readonly Output[] {
    const lateMs = atMs - this.machine.nextDeadlineMs();
    if (lateMs >= MEMBERSHIP_OPTIONS.lagMs)
      fail(`at ${atMs} it would take itself for frozen, ${lateMs} ms after its deadline: run it until then`);
    return this.#give(input, atMs);
  }

  /** It stands still for so long, and then looks at its clock. */
  freeze(forMs: number): readonly Output[] {
    return this.#give({ kind: "tick" }, this.nowMs + forMs);
  }

  #give(input: Input, atMs: number): readonly Output[] {
    this.nowMs = Math.max(this.nowMs, atMs);
    const out: Output[] = [];
    this.machine.handle(input, this.time(), out);
    const left = out.flatMap((output) => {
      if (output.kind !== "call" || output.request.kind === "pushPull") return [output];
      const call = { ...output, atMs: this.nowMs };
      const response = this.onProbe(call);
      if (response === undefined) this.probes.push(call);
      return response === undefined ? [output] : this.give({ kind: "answered", call: output.call, response });
    });
    this.outputs.push(...out);
    return left;
  }

  /** Calls that wait for an answer. */
  calls(input: Input, atMs = this.nowMs): readonly Call[] {
    return this.give(input, atMs).flatMap((output) => (output.kind === "call" ? [{ ...output, atMs: this.nowMs }] : []));
  }

  join(addresses: readonly string[], atMs = this.nowMs): readonly Call[] {
    return this.calls({ kind: "join", addresses }, atMs);
  }

  /** To the next deadline. */
  step(): readonly Call[] {
    const dueMs = this.machine.nextDeadlineMs();
    return dueMs === NEVER ? fail("nothing is due") : this.calls({ kind: "tick" }, dueMs);
  }

  runUntil(endMs: number): readonly Call[] {
    const calls: Call[] = [];
    while (this.machine.nextDeadlineMs() <= endMs) calls.push(...this.step());
    this.nowMs = Math.max(this.nowMs, endMs);
    return calls;
  }

  /** To the next call that waits for an answer. */
  nextCall(): Call {
    for (let n = 0; n < 100_000; n++) {
      const [call] = this.step();
      if (call !== undefined) return call;
    }
    return fail("it calls nobody any more");
  }

  answer(call: Call | undefined, response: FabricCallResponse | undefined, atMs = this.nowMs, refusal?: string): readonly Output[] {
    if (call === undefined) throw new Error("no call");
    return this.give({ kind: "answered", call: call.call, response, ...(refusal !== undefined && { refusal }) }, atMs);
  }

  /** Answers the probes that wait for the node at that address, as the node says itself. */
  answerProbes(address: string, node: NodeRef & ProcessInstance): void {
    const from = { ...nodeRef(node.nodeId), ...node };
    for (const call of this.probes.splice(0))
      if (call.to === address) this.answer(call, { kind: "probe", from, updates: [] });
      else this.probes.push(call);
  }

  /** Nobody answers any probe, until it is so. */
  failUntil(isSo: () => boolean, maxMs = 5000): void {
    for (const endMs = this.nowMs + maxMs; !isSo(); ) {
      if (this.nowMs >= endMs) fail(`it is not so after ${maxMs} ms without an answer`);
      const [call] = this.probes.splice(0, 1);
      if (call === undefined) this.step();
      else this.answer(call, undefined);
    }
  }

  ask(request: FabricCallRequest, identity = PROOF): FabricCallResponse | undefined {
    const answer = this.give({ kind: "asked", call: 1, request, identity }).find((output) => output.kind === "answer");
    return answer?.kind === "answer" ? answer.response : undefined;
  }

  /** Tells it these updates one after the other; returns the names of the counters of what it refused. */
  hear(updates: readonly MemberUpdate[], { from = "teller", path = "gossip", clusterId }: Telling = {}): readonly string[] {
    return updates.flatMap((update) => {
      const { generation, boot } = update;
      const own = update.nodeId === from ? { generation, ...(boot !== undefined && { boot }) } : { generation: 1 };
      const updateSource = { ...nodeRef(from), ...own, clusterId: clusterId ?? this.held(from)?.clusterId ?? "c1" };
      const before = { ...this.machine.stats().refused };
      if (path === "table") this.ask({ kind: "pushPull", from: updateSource, isJoin: false, members: [update] });
      else this.ask({ kind: "probe", from: updateSource, targetNodeId: this.#name, updates: [update] });
      return (Object.keys(before) as (keyof typeof before)[]).filter((reason) => this.machine.stats().refused[reason] > before[reason]);
    });
  }

  events(): readonly string[] {
    return this.outputs.flatMap((output) => (output.kind === "event" ? [output.event.name] : []));
  }
}

/** As the node that is meant answers. */
function answerAs({ request }: Call): FabricCallResponse | undefined {
  return request.kind === "probe" ? { kind: "probe", from: nodeRef(request.targetNodeId), updates: [] } : undefined;
}

function fail(why: string): never {
  throw new Error(why);
}

/** What a node says of itself, or others of it. */
export function said(nodeId: string, status: MemberUpdate["status"] = "alive", more: Partial<MemberUpdate> = {}): MemberUpdate {
  return { ...factsOf(nodeId), status, incarnation: 1, accuser: "", ...more };
}
