/** Policy in a simulated node: its own tasks, on the store of its disk, which answers late, and refuses to write when the disk is full. */
import { catalogFactsForPlan } from "../../src/discovery/policy-facts.ts";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import type { NamespaceRule } from "../../src/policy/set/rules.ts";
import { type PolicyTask, type TaskInput, TaskMachine, type TaskOrder, type TaskResult } from "../../src/policy/task.ts";
import { type AdoptResult, PolicyStore } from "../../src/policy/versions/policy-store.ts";
import type { VersionPlace } from "../../src/policy/versions/version.ts";
import { ControlMap } from "../fakes/control-map.ts";
import { channels, rule, set } from "../fakes/policies.ts";
import { TaskRun } from "../fakes/policy-tasks.ts";
import type { SimNode, SimProcess } from "./sim-node.ts";
import { SimStore } from "./sim-store.ts";

/** What an operator may apply; the first allows everything. */
const VARIANTS: readonly (readonly NamespaceRule[])[] = [
  [],
  [rule("svc", { visibilityTenants: ["nobody"] })],
  [rule("svc.eu", { visibilityTenants: ["nobody"] }), rule("other", { owners: ["c2"] })],
  [rule("other", { visibility: ["c1"] })],
];

/** Who applies a policy and loses to another tries again, so often at most. */
const MAX_TRIES = 3;

/** Between two slices of a task at most: other events fall between them. */
const SLICE_APART_MS = 50;

const OPERATOR = { principal: "op", tenant: "", address: "", owns: undefined, mayRead: true };
const TERMS = { expectedNumber: 0, stage: undefined, reason: "", changeTicket: "" };
/** Applies a set at a node. */
export function applyPolicy(node: SimNode, variant: number): void {
  node.process?.tasks.apply(variant);
}

export function copyOf(store: ControlMap): ControlMap {
  const copy = new ControlMap();
  for (const { key, value } of store.list("").items) copy.compareAndSwap(key, 0, value);
  return copy;
}

/** The tasks of a process. */
export class SimTasks {
  readonly store: SimStore;
  readonly #process: SimProcess;
  readonly #policyStore: PolicyStore;
  readonly #tasks = new TaskMachine();
  readonly #orders: TaskOrder[] = [];
  #isPausing = false;

  /** Puts in force what the store has. */
  constructor(process: SimProcess) {
    const { clusterId, region } = process.node.options;
    this.#process = process;
    this.store = new SimStore(process);
    // What is in force at the start is told when the process begins.
    let isRestored = false;
    this.#policyStore = new PolicyStore({
      engine: process.policies,
      catalog: catalogFactsForPlan(process.replica, { node: { ...process.node.options, boot: process.boot } }, { viewers: [], channels }),
      self: { clusterId, region },
      knownPlaces: () => new Set([clusterId, region]),
      audit: () => undefined,
      onHead: (head) => {
        if (isRestored) process.input({ kind: "policy", head });
      },
    });
    const run = new TaskRun(process.node.disk.store);
    run.begin(this.#policyStore.restore(), process.time());
    run.finish(process.time());
    isRestored = true;
  }

  apply(variant: number): void {
    this.applyRules(VARIANTS[variant % VARIANTS.length] ?? [], `v${variant}`);
  }

  applyRules(rules: readonly NamespaceRule[], version: string, tries = 1): void {
    const wanted = { ...set(rules), defaultAllow: true, version };
    const task = this.#policyStore.apply(OPERATOR, { set: wanted, terms: TERMS, isDryRun: false });
    this.#begin(task, (ended) => {
      const isBeaten = "error" in ended && ended.error instanceof WaymarkError && ended.error.reason === "version_conflict";
      if (isBeaten && tries < MAX_TRIES) this.applyRules(rules, version, tries + 1);
    });
  }

  /** A version that came over a link. */
  adopt({ head, bytes, via }: Extract<FabricOutput, { kind: "adoptPolicy" }>): void {
    this.#begin(this.#policyStore.adopt(head, bytes, via), (ended) => {
      const outcome = "error" in ended ? { notKept: String(ended.error) } : (ended.result as AdoptResult);
      this.#process.later({ kind: "policyAdopted", head, via, outcome });
    });
  }

  /** A version that a link wants. */
  read(number: number): void {
    this.#begin(this.#policyStore.encoded(number), (ended) => {
      const bytes = "error" in ended ? undefined : (ended.result as Uint8Array | undefined);
      this.#process.later({ kind: "policyRead", number, bytes });
    });
  }

  /** The bytes of a version that is kept, for resolvers. */
  encodedAt(place: VersionPlace): Uint8Array | undefined {
    const run = new TaskRun(this.#process.node.disk.store);
    const task = run.begin(this.#policyStore.encodedAt(place), this.#process.time());
    run.finish(this.#process.time());
    const ended = run.ended.get(task);
    return ended !== undefined && "result" in ended ? (ended.result as Uint8Array | undefined) : undefined;
  }

  #begin(work: PolicyTask<unknown>, onEnd: (ended: TaskResult) => void): void {
    const { node } = this.#process;
    const ended = (how: TaskResult) => {
      if ("error" in how) node.parts.trace.say(() => `${node.name} fails in a task: ${String(how.error)}`);
      onEnd(how);
    };
    this.#input({ kind: "begin", work, ended });
  }

  #input(...inputs: readonly TaskInput[]): void {
    for (const input of inputs) this.#tasks.handle(input, this.#process.time(), this.#orders);
    for (const order of this.#orders.splice(0)) this.#carryOut(order);
    if (this.#isPausing || this.#tasks.pausedCount === 0) return;
    this.#isPausing = true;
    const { node } = this.#process;
    const { world, rng } = node.parts;
    world.after(rng.int(SLICE_APART_MS), () => {
      if (this.#process.isStopped) return;
      node.enqueue(() => {
        this.#isPausing = false;
        const count = Math.min(1 + rng.int(2), this.#tasks.pausedCount);
        this.#input(...Array.from({ length: count }, () => ({ kind: "tick" }) as const));
      });
    });
  }

  #carryOut(order: TaskOrder): void {
    const { ask } = order;
    const over = () => this.#input({ kind: "answered", ask, answer: { kind: "over" } });
    if (order.kind === "store") this.store.ask(order.request, (answer) => this.#input({ kind: "answered", ask, answer }));
    else if (order.until === "shown") this.#process.switchPolicy(over);
    else if (order.until === "heard") this.#process.whenHeard(over);
    else this.store.audited((answer) => this.#input({ kind: "answered", ask, answer }));
  }
}
