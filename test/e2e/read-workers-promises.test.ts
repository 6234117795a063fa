/** What clients are promised of a node with read workers, at connections of which the worker is known: it is one node. */
import { createHash } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { type LimitedNode, type Outcome, outcomeOf, registration, startLimitedNode } from "../fakes/limited-node.ts";
import { waymarkProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";
import { type Caller, openWorkerDoors, type WorkerDoor } from "../fakes/worker-doors.ts";

const WORKERS = 2;
/** Of a caller, a second: with a window of one second, also what may be used at once. */
const READS = 60;
const WRITES = 40;
/** Of a namespace, by all callers together. */
const NAMESPACE_READS = 90;
const NAMESPACE_ENTRIES = 12;
const TENANT_ENTRIES = 20;
const NAMESPACE_WATCHES = 4;
const TENANT_WATCHES = 6;

const AUDIT_FILE = join(tmpdir(), `waymark-workers-audit-${process.pid}.jsonl`);
const SETTINGS = `
[node]
workers = ${WORKERS}
[limits]
window = "1s"
reads_per_minute = ${60 * READS}
writes_per_minute = ${60 * WRITES}
namespace_reads_per_minute = ${60 * NAMESPACE_READS}
[quotas]
namespace_entries = ${NAMESPACE_ENTRIES}
namespace_watches = ${NAMESPACE_WATCHES}
tenant_entries = ${TENANT_ENTRIES}
tenant_watches = ${TENANT_WATCHES}
[audit]
file = "${AUDIT_FILE}"
`;

let node: LimitedNode;
beforeAll(async () => {
  rmSync(AUDIT_FILE, { force: true });
  node = await startLimitedNode(SETTINGS);
});
afterAll(async () => {
  await node[Symbol.asyncDispose]();
  rmSync(AUDIT_FILE, { force: true });
});

/** Calls that were refused for who made them or how many, by principal and reason: the audit is to have each of them once. */
const refused = new Map<string, number>();
const PRINCIPALS = { a: "a-app", b: "b-app", operator: "operator-app", stranger: "" };

/** How a call of this caller ended. */
async function ask(who: Caller, call: Promise<unknown>): Promise<Outcome> {
  const outcome = await outcomeOf(call);
  const reason = outcome.reason.replace("discovery_rate_limited", "rate_limited");
  if (reason !== "ok") refused.set(`${PRINCIPALS[who]} ${reason}`, (refused.get(`${PRINCIPALS[who]} ${reason}`) ?? 0) + 1);
  return outcome;
}

/** Runs with a door of each kind to each worker. */
async function atDoors(kinds: readonly ("grpc" | "json")[], act: (doors: readonly WorkerDoor[]) => Promise<void>): Promise<void> {
  const doors = await openWorkerDoors(node.process, WORKERS, kinds);
  try {
    await act(doors);
  } finally {
    for (const door of doors) door[Symbol.dispose]();
  }
}

test("a page token of one worker is good at every other one, at gRPC and at HTTP with JSON", async () => {
  const ids = Array.from({ length: 8 }, (_, i) => `p${i}`);
  await atDoors(["grpc", "json"], async (doors) => {
    await doors[0]?.discovery("operator").register({ ...registration("svc.pages", ...ids), staticLease: true });
    for (const first of doors.keys()) {
      const asked: string[] = [];
      const found: string[] = [];
      let pageToken = "";
      do {
        const door = doors[(first + asked.length) % doors.length];
        const page = await door?.discovery("operator").catalogQuery({ namespace: "svc.pages", limit: 1, pageToken });
        asked.push(`${door?.kind} ${door?.worker}`);
        for (const { key } of page?.items ?? []) found.push(key?.instanceId ?? "");
        pageToken = page?.nextPageToken ?? "";
      } while (pageToken !== "");
      expect(found.toSorted()).toEqual(ids);
      // Every page but the first had its token from the other worker, and each door took part.
      expect(new Set(asked)).toEqual(new Set(["grpc 1", "grpc 2", "json 1", "json 2"]));
    }
  });
});

/** What a reader holds that folds a watch, and what the node said at each END and bookmark. */
class Digested {
  readonly #held = new Map<string, string>();
  /** By short cursor: count and digest as the node says. */
  readonly said = new Map<string, string>();
  last = "";
  readonly #abort = new AbortController();
  readonly #ended: Promise<void>;

  constructor(door: WorkerDoor, namespace: string) {
    const request = { namespace, withDigest: true, bookmarkInterval: { seconds: 1n } };
    this.#ended = this.#read(door.discovery("operator").catalogWatch(request, { signal: this.#abort.signal }));
    this.#ended.catch(() => {});
  }

  get count(): number {
    return this.#held.size;
  }

  async end(): Promise<void> {
    this.#abort.abort();
    await this.#ended.catch(() => {});
  }

  async #read(messages: ReturnType<ReturnType<WorkerDoor["discovery"]>["catalogWatch"]>): Promise<void> {
    for await (const { deltas, snapshot, bookmark, cursor, count, digest } of messages) {
      for (const { payload, deltaId } of deltas) {
        if (payload.case === "entry") this.#held.set(payload.value.key?.instanceId ?? "", deltaId);
        if (payload.case === "removed") this.#held.delete(payload.value.instanceId);
      }
      if (snapshot !== Snapshot.END && !bookmark) continue;
      this.last = `${count} ${digest}`;
      this.said.set(cursor, this.last);
    }
  }

  /** What the guide says the digest must be. */
  get folded(): string {
    let sum = 0n;
    for (const deltaId of this.#held.values()) sum += createHash("sha256").update(deltaId).digest().readBigUInt64BE();
    return `${this.#held.size} ${BigInt.asUintN(64, sum)}`;
  }
}

test("a watch with a digest has the same one at each worker, which is that of what its reader holds", async () => {
  await atDoors(["grpc"], async (doors) => {
    const namespace = "svc.digest";
    const [one, two] = doors.map((door) => door.discovery("operator"));
    await one?.register({ ...registration(namespace, "0", "1", "2"), staticLease: true });
    const watches = doors.map((door) => new Digested(door, namespace));
    const agree = () => watches.every((watch) => watch.count === 3 && watch.last === watch.folded);
    await until("each has its snapshot", agree);
    await two?.register({ ...registration(namespace, "3"), staticLease: true });
    await one?.unregister({ keys: [{ namespace, name: "web", kind: 1, instanceId: "1" }] });
    await two?.register({ entries: registration(namespace, "2").entries.map((entry) => ({ ...entry, tags: ["new"] })), staticLease: true });
    // In the end each is at one revision, and says so with the same cursor.
    const shared = () => [...(watches[0]?.said.keys() ?? [])].filter((cursor) => watches.every(({ said }) => said.has(cursor)));
    await until("each worker has told of one revision after the changes", () => agree() && shared().length > 0);
    for (const cursor of shared()) expect(new Set(watches.map(({ said }) => said.get(cursor))).size).toBe(1);
    expect(new Set(watches.map(({ last }) => last)).size).toBe(1);
    // And whoever comes now is told the same, at whichever worker.
    const fresh = doors.map((door) => new Digested(door, namespace));
    await until("each has its snapshot", () => fresh.every(({ last }) => last !== ""));
    expect(fresh.map(({ last }) => last)).toEqual(fresh.map(() => watches[0]?.last));
    await Promise.all([...watches, ...fresh].map((watch) => watch.end()));
  });
});

const countOf = (outcomes: readonly Outcome[], reason: string) => outcomes.filter((outcome) => outcome.reason === reason).length;

test("entries that are registered at all workers at once count together: for their namespace, and for their tenant", async () => {
  await atDoors(["grpc", "json"], async (doors) => {
    const register = (door: WorkerDoor, who: "a" | "b", namespace: string, id: string) =>
      ask(who, door.discovery(who).register(registration(namespace, id)));
    /** So many at each door, all at once. */
    const registerAll = (who: "a" | "b", namespace: string, count: number) =>
      Promise.all(doors.flatMap((door, at) => Array.from({ length: count }, (_, i) => register(door, who, namespace, `${at}-${i}`))));

    const ofNamespace = await registerAll("a", "svc.full", 6);
    expect([countOf(ofNamespace, "ok"), countOf(ofNamespace, "quota_exceeded")]).toEqual([NAMESPACE_ENTRIES, 24 - NAMESPACE_ENTRIES]);
    const ofTenant = (await Promise.all(["svc.b1", "svc.b2", "svc.b3"].map((namespace) => registerAll("b", namespace, 2)))).flat();
    expect([countOf(ofTenant, "ok"), countOf(ofTenant, "quota_exceeded")]).toEqual([TENANT_ENTRIES, 24 - TENANT_ENTRIES]);

    // What leaves through one worker makes room at the next one, and for one entry only.
    for (const [at, door] of doors.entries()) {
      const [found] = (await door.discovery("a").catalogQuery({ namespace: "svc.full", limit: 1 })).items;
      if (found?.key === undefined) throw new Error("the namespace is empty");
      const { namespace, name, kind, instanceId } = found.key;
      expect(await door.discovery("a").unregister({ keys: [{ namespace, name, kind, instanceId }] })).toMatchObject({ removed: 1 });
      const next = doors[(at + 1) % doors.length] ?? door;
      expect((await register(next, "a", "svc.full", `again-${at}`)).reason).toBe("ok");
      expect((await register(door, "a", "svc.full", `more-${at}`)).reason).toBe("quota_exceeded");
    }
  });
});

/** A watch that counts while it is open. */
async function openWatch(door: WorkerDoor, who: "a" | "b", namespace: string) {
  const abort = new AbortController();
  const stream = door.discovery(who).catalogWatch({ namespace }, { signal: abort.signal })[Symbol.asyncIterator]();
  return { ...(await ask(who, stream.next())), worker: door.worker, close: () => abort.abort() };
}

test("watches that are open at all workers count together: for their namespace, and for their tenant", async () => {
  await atDoors(["grpc"], async (doors) => {
    /** So many at each worker, all at once. */
    const openAll = (who: "a" | "b", namespaceOf: (i: number) => string, count: number) =>
      Promise.all(doors.flatMap((door) => Array.from({ length: count }, (_, i) => openWatch(door, who, namespaceOf(i)))));

    const ofNamespace = await openAll("a", () => "svc.watched", NAMESPACE_WATCHES);
    expect([countOf(ofNamespace, "ok"), countOf(ofNamespace, "quota_exceeded")]).toEqual([NAMESPACE_WATCHES, NAMESPACE_WATCHES]);
    const ofTenant = await openAll("b", (i) => `svc.watched${i}`, TENANT_WATCHES);
    expect([countOf(ofTenant, "ok"), countOf(ofTenant, "quota_exceeded")]).toEqual([TENANT_WATCHES, TENANT_WATCHES]);

    // A watch that ends at one worker makes room at another, for one.
    const [ended] = ofNamespace.filter(({ reason }) => reason === "ok");
    const other = doors.find(({ worker }) => worker !== ended?.worker) ?? doors[0];
    if (ended === undefined || other === undefined) throw new Error("no watch is open");
    ended.close();
    // The namespace is looked at first: when it is the tenant that has too many, the namespace has room.
    await until("the namespace has room, and the tenant has none", async () => {
      const { message } = await openWatch(other, "b", "svc.watched");
      return message.startsWith('quota_exceeded: tenant "b" has ') ? [] : [message];
    });
    for (const { close } of ofTenant) close();
    await until("there is room for another tenant too", async () => (await openWatch(other, "b", "svc.watched")).reason === "ok");
    for (const door of doors) expect((await openWatch(door, "a", "svc.watched")).reason).toBe("quota_exceeded");
  });
});

/** Calls that are under way at each door: few beside a tenth of what is admitted. */
const UNDER_WAY = 4;
const FLOOD_MS = 2000;
/** For how long nobody may be refused. */
const MAX_UNREFUSED_MS = 30_000;

interface Asked {
  readonly worker: number;
  /** What is said to the caller; empty when it was admitted. */
  readonly message: string;
  readonly sentMonoMs: number;
  readonly answeredMonoMs: number;
}

/** Asks without pause at each of these doors for so long after the first refusal of `whose` calls. In the order of the answers. */
async function flood(
  whose: string,
  calls: readonly { readonly door: WorkerDoor; readonly who: Caller; readonly call: () => Promise<unknown> }[],
) {
  const asked: Asked[] = [];
  let endMonoMs = performance.now() + MAX_UNREFUSED_MS;
  let wasRefused = false;
  const askOn = async ({ door, who, call }: (typeof calls)[number]) => {
    while (performance.now() < endMonoMs) {
      const sentMonoMs = performance.now();
      const { reason, message } = await ask(who, call());
      expect(["ok", "discovery_rate_limited"]).toContain(reason);
      asked.push({ worker: door.worker, message, sentMonoMs, answeredMonoMs: performance.now() });
      if (wasRefused || !isRefusalOf(whose, message)) continue;
      wasRefused = true;
      endMonoMs = performance.now() + FLOOD_MS;
    }
  };
  await Promise.all(calls.flatMap((each) => Array.from({ length: UNDER_WAY }, () => askOn(each))));
  return asked;
}

function isRefusalOf(whose: string, message: string): boolean {
  return message.includes(`${whose} has `);
}

/**
 * Expects this rate of a caller or a namespace, give or take a tenth, from its first refusal to the last: then there is no token in its bucket, so
 * that what may be used at once does not count, and neither does a test that stands still for a moment.
 */
function expectRate(asked: readonly Asked[], whose: string, perSecond: number): void {
  const isRefusal = ({ message }: Asked) => isRefusalOf(whose, message);
  const [first, last] = [asked.find(isRefusal), asked.findLast(isRefusal)];
  if (first === undefined || last === undefined) throw new Error("nothing was refused");
  const admitted = asked.slice(asked.indexOf(first)).filter(({ message }) => message === "");
  const endMonoMs = Math.max(...asked.map(({ answeredMonoMs }) => answeredMonoMs));
  expect(admitted.length).toBeGreaterThan(0.9 * perSecond * ((last.sentMonoMs - first.answeredMonoMs) / 1000));
  expect(admitted.length).toBeLessThan(1.1 * perSecond * ((endMonoMs - first.sentMonoMs) / 1000));
  expect(last.sentMonoMs - first.answeredMonoMs).toBeGreaterThan(FLOOD_MS / 2);
  expect(new Set(admitted.map(({ worker }) => worker)).size).toBe(WORKERS);
}

test("a flood over all workers gets the rates of one node for as long as it lasts: of reads, of writes", async () => {
  await atDoors(["grpc"], async (doors) => {
    const written = keysOf(registration("svc.none", "1"));
    const read = (door: WorkerDoor) => door.discovery("a").catalogQuery({ namespace: "svc.none" });
    const write = (door: WorkerDoor) => door.discovery("a").unregister({ keys: written });
    for (const [call, perSecond] of [[read, READS] as const, [write, WRITES] as const]) {
      const calls = doors.map((door) => ({ door, who: "a" as const, call: () => call(door) }));
      expectRate(await flood('tenant "a"', calls), 'tenant "a"', perSecond);
    }
  });
});

test("a namespace has one rate, although each of its readers is at a worker of its own", async () => {
  await atDoors(["grpc"], async (doors) => {
    const calls = doors.map((door, at) => {
      const who = at === 0 ? "a" : "b";
      return { door, who, call: () => door.discovery(who).catalogQuery({ namespace: "svc.busy" }) } as const;
    });
    const whose = 'namespace "svc.busy"';
    expectRate(await flood(whose, calls), whose, NAMESPACE_READS);
  });
});

function keysOf({ entries }: ReturnType<typeof registration>) {
  return entries.map(({ key: { namespace, name, kind, instanceId } }) => ({ namespace, name, kind, instanceId }));
}

interface AuditLine {
  readonly number: number;
  readonly principal: string;
  readonly outcome: string;
  readonly reason: string;
  readonly detail: string;
}

test("there is one audit chain, with each refusal at any door of any worker once, also when the node stops", async () => {
  await atDoors(["grpc", "json"], async (doors) => {
    const refuse = (count: number) =>
      Promise.all(
        doors.flatMap((door) =>
          Array.from({ length: count }, async () => {
            expect((await ask("stranger", door.discovery("stranger").catalogQuery({}))).reason).toBe("unauthenticated");
            // The flood before may have left nothing of the rate of b.
            let reason: string;
            do ({ reason } = await ask("b", door.policy("b").verifyAudit({})));
            while (reason === "discovery_rate_limited");
            expect(reason).toBe("discovery_access_denied");
          }),
        ),
      );
    await refuse(3);
    for (const door of doors) expect(await door.policy("operator").verifyAudit({})).toMatchObject({ intact: true, firstNumber: 1n });
    // These are only counted when the node stops.
    await refuse(4);
  });
  expect((await node.process.stop()).exit).toBe(0);
  const lines = readFileSync(AUDIT_FILE, "utf8").trimEnd().split("\n");
  const records = lines.map((line) => JSON.parse(line) as AuditLine);
  expect(await waymarkProcess(["audit", "verify", AUDIT_FILE])).toMatchObject({ exit: 0, stderr: "" });
  expect(records.map(({ number }) => number)).toEqual(records.map((_, i) => i + 1));
  const recorded = new Map<string, number>();
  for (const { principal, outcome, reason, detail } of records) {
    if (outcome !== "denied") continue;
    const count = Number(/(\d+) calls refused$/.exec(detail)?.[1] ?? 1);
    recorded.set(`${principal} ${reason}`, (recorded.get(`${principal} ${reason}`) ?? 0) + count);
  }
  expect(recorded).toEqual(refused);
});
