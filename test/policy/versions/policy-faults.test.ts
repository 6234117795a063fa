/** The rules of a policy store under anything that its store may do: one request of any task fails, in any order of tasks. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { assert, WaymarkError } from "../../../src/lib/errors.ts";
import type { PolicySet } from "../../../src/policy/set/rules.ts";
import { checksumOf } from "../../../src/policy/set/rules.ts";
import type { PolicyTask, TaskRequest } from "../../../src/policy/task.ts";
import { decodeFacts } from "../../../src/policy/versions/codec.ts";
import { PolicyEngine } from "../../../src/policy/versions/engine.ts";
import { PolicyFile } from "../../../src/policy/versions/policy-file.ts";
import { PolicyStore } from "../../../src/policy/versions/policy-store.ts";
import type { VersionFacts } from "../../../src/policy/versions/version.ts";
import { isNewer, isSamePlace, NO_PLACE, type VersionPlace } from "../../../src/policy/versions/version.ts";
import { ControlMap } from "../../fakes/control-map.ts";
import { channels, rule, set } from "../../fakes/policies.ts";
import { type Fault, TaskRun } from "../../fakes/policy-tasks.ts";
import { version } from "../../fakes/policy-versions.ts";

const ANN = { principal: "ann", tenant: "", address: "", owns: undefined, mayRead: true };
const TERMS = { expectedNumber: 0, stage: undefined, reason: "", changeTicket: "" };
const VIA = { nodeId: "m", clusterId: "eu-2" };

function only(team: number): PolicySet {
  return set([rule("svc.a", { visibilityTenants: [`t${team}`] })], { version: `t${team}` });
}

/** A policy store and file over a map that may fail once. */
class Node {
  readonly engine = new PolicyEngine({ nodeId: "n1", clusterId: "eu-1", maxVersions: 3, maxBytes: 1e6 });
  readonly map: ControlMap;
  readonly run: TaskRun;
  readonly policyStore: PolicyStore;
  readonly file: PolicyFile;
  readonly now = { monoMs: 0, wallMs: 5000 };
  /** What other nodes were told last. */
  head: VersionPlace = NO_PLACE;
  /** Whether watches have heard of the last change. */
  #isHeard = false;

  constructor(map: ControlMap, fault?: Fault) {
    this.map = map;
    this.run = new TaskRun(map, fault, (request) => this.#check(request));
    const catalog = { namespaces: () => [], count: () => 0, examples: () => [], viewers: () => [], channels, entries: () => [] };
    this.policyStore = new PolicyStore({
      engine: this.engine,
      catalog,
      self: { clusterId: "eu-1", region: "eu" },
      knownPlaces: () => new Set(),
      audit: () => {},
      onHead: (head) => {
        this.head = head;
      },
    });
    this.file = new PolicyFile(this.policyStore);
  }

  /** Runs a task to its end; why it failed, if it did. */
  do(task: PolicyTask<unknown>): unknown {
    const id = this.run.begin(task, this.now);
    this.run.finish(this.now);
    const ended = this.run.ended.get(id);
    return ended !== undefined && "error" in ended ? ended.error : undefined;
  }

  kept(prefix: string): readonly VersionFacts[] {
    return this.map.list(prefix).items.flatMap(({ value }) => {
      const facts = decodeFacts(value);
      return facts.ok ? [facts.version] : [];
    });
  }

  /**
   * While anything may happen, nothing is in force that a restart would forget, but for what wins over it and was stored without an answer; and
   * nothing is shown that other nodes were not told of. No version is stored before watches have heard of the one before.
   */
  #check(request: TaskRequest): void {
    const { kind } = request;
    const { place } = this.engine;
    const kept = this.kept("policy/versions/").find(({ number }) => number === place.number) ?? NO_PLACE;
    assert(!isNewer(place, kept), `version ${place.number} is in force and not in the store`);
    assert(kind !== "shown" || isSamePlace(this.head, place), `version ${place.number} is shown before others are told of it`);
    const isStored = kind === "swap" && request.value !== undefined && request.key.startsWith("policy/versions/");
    assert(this.#isHeard || !isStored, "a version is stored before watches have heard of the one before");
    if (kind === "heard" || kind === "shown") this.#isHeard = kind === "heard";
  }
}

type Act = (node: Node) => PolicyTask<unknown>;

const team = fc.integer({ min: 1, max: 4 });
const fileOf = (n: number) => ({ ok: true, set: only(n), checksum: checksumOf(only(n)) }) as const;
const act: fc.Arbitrary<Act> = fc.oneof(
  team.map(
    (n): Act =>
      ({ policyStore }) =>
        policyStore.apply(ANN, { set: only(n), terms: TERMS, isDryRun: false }),
  ),
  team.map(
    (n): Act =>
      ({ policyStore, engine }) => {
        // As early or as late as what is here, and of this number or the next.
        const { head, bytes } = version(Math.max(1, engine.newestNumber + (n % 2)), "z", n, engine.place.hlc + (n > 2 ? 1 : 0));
        return policyStore.adopt(head, bytes, VIA);
      },
  ),
  fc.constant<Act>(({ policyStore }) => policyStore.establish()),
  team.map(
    (n): Act =>
      ({ file }) =>
        file.apply("p", fileOf(n)),
  ),
  fc.tuple(team, fc.boolean()).map(
    ([n, others]): Act =>
      ({ file }) =>
        file.letIn("p", fileOf(n), others),
  ),
);
const fault = fc.record({ at: fc.nat(40), isDone: fc.boolean() });

function isRefusal(error: unknown): boolean {
  return error === undefined || error instanceof WaymarkError;
}

test("whatever request fails, tasks end, nothing is half in force, and the next task finds its way", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(act, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 4 }),
      fault,
      fc.boolean(),
      fc.infiniteStream(fc.nat(1000)),
      (groups, planted, isNew, choices) => {
        const node = new Node(new ControlMap(), planted);
        if (isNew) node.file.awaitCluster();
        const choose = (count: number) => (choices.next().value ?? 0) % count;
        for (const group of groups) {
          node.now.wallMs += 1000;
          for (const one of group) node.run.begin(one(node), node.now);
          node.run.finish(node.now, choose);
        }
        for (const ended of node.run.ended.values()) expect(isRefusal("error" in ended ? ended.error : undefined)).toBe(true);
        // What a restart has is what is in force, or what came into the store without an answer.
        const again = new Node(node.map);
        expect(again.do(again.policyStore.restore())).toBeUndefined();
        expect(again.engine.newestNumber - node.engine.newestNumber).toBeOneOf(planted.isDone ? [0, 1] : [0]);
        if (!planted.isDone) expect(again.engine.status.inForce).toEqual(node.engine.status.inForce);
        // The fault may come only now, and who lost an answer has to learn of a version first.
        const apply = () => node.do(node.policyStore.apply(ANN, { set: only(9), terms: TERMS, isDryRun: false }));
        expect([1, 2, 3].some(() => apply() === undefined)).toBe(true);
        expect(node.engine.inForce?.version).toBe("t9");
      },
    ),
  );
});

test("a version that another takes the place of is kept, at whatever request the store fails", () => {
  for (let at = 0; at < 12; at++) {
    for (const isDone of [false, true]) {
      const map = new ControlMap();
      const before = new Node(map);
      before.do(before.policyStore.apply(ANN, { set: only(1), terms: TERMS, isDryRun: false }));
      const lost = before.engine.place;
      const node = new Node(map, { at, isDone });
      node.do(node.policyStore.restore());
      const { head, bytes } = version(1, "z", 1, lost.hlc + 1);
      // As a link does, until it is taken.
      for (let n = 0; n < 3; n++) node.do(node.policyStore.adopt(head, bytes, VIA));
      const isTaken = isSamePlace(node.engine.place, head);
      const all = [...node.kept("policy/versions/"), ...node.kept("policy/superseded/")];
      expect(all.some((facts) => isSamePlace(facts, lost))).toBe(true);
      expect(isTaken, `with a fault at ${at}, done: ${isDone}`).toBe(true);
    }
  }
});
