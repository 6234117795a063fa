/** When a resolver registers itself, renews that and registers again (semantics.md, Resolver). */
import { expect, test } from "vitest";
import { type SelfInput, type SelfOrder, SelfRegistration } from "../../src/resolver/self-registration.ts";

const TTL_MS = 30_000;
const OTHER = { kind: "failed", failure: { kind: "other", retryMs: undefined } } as const;

/** A machine, its clock and what it ordered. Chance is 1 at each draw: the longest waits, and the earliest renewals. */
class World {
  readonly machine = new SelfRegistration(() => 1);
  nowMs = 0;

  give(input: SelfInput): readonly string[] {
    const out: SelfOrder[] = [];
    this.machine.handle(input, { monoMs: this.nowMs, wallMs: 0 }, out);
    return out.map(wordsOf);
  }

  /** Goes to the next deadline. Returns the time that passed, and what was ordered then. */
  next(): readonly [number, ...string[]] {
    const waitMs = this.machine.nextDeadlineMs() - this.nowMs;
    // A tick that comes too early changes nothing.
    const early = waitMs > 0 ? this.give({ kind: "tick" }) : [];
    this.nowMs += Math.max(0, waitMs);
    return [waitMs, ...early, ...this.give({ kind: "tick" })];
  }

  upstream(upstream: string | undefined): readonly string[] {
    return this.give({ kind: "upstream", upstream });
  }

  /** Registered at `a` under the lease `L`. */
  held(): this {
    this.upstream("a");
    this.next();
    this.give({ kind: "registered", leaseId: "L", ttlMs: TTL_MS });
    return this;
  }
}

function wordsOf(order: SelfOrder): string {
  if (order.kind === "find") return `find ${order.server}`;
  if (order.kind !== "told") return [order.kind, order.server, order.leaseId].filter(Boolean).join(" ");
  const { step } = order;
  if (step.kind === "contested") return `contested ${step.other}`;
  return step.kind === "lost" ? `lost ${step.server} ${step.why}` : `${step.kind} ${step.server}`;
}

const RENEWED = { kind: "renewed", isExpired: false, ttlMs: TTL_MS } as const;

test("without an upstream it waits; with one it registers, and renews after a third of the ttl or somewhat earlier", () => {
  const world = new World();
  expect([world.machine.nextDeadlineMs(), world.give({ kind: "tick" })]).toEqual([Number.POSITIVE_INFINITY, []]);
  world.upstream("a");
  expect(world.next()).toEqual([250, "register a"]);
  expect(world.give({ kind: "registered", leaseId: "L", ttlMs: TTL_MS })).toEqual(["registered a"]);
  for (let i = 0; i < 3; i++) {
    expect(world.next()).toEqual([7500, "renew a L"]);
    expect(world.machine.nextDeadlineMs(), "one call at a time").toBe(Number.POSITIVE_INFINITY);
    expect(world.give(RENEWED)).toEqual([]);
  }
  expect(new World().held().machine.lease).toMatchObject({ leaseId: "L", server: "a" });
});

test("what fails is tried again with full jitter from 0.25 to 10 s, or when the server says", () => {
  const world = new World();
  world.upstream("a");
  world.next();
  const waits = Array.from({ length: 7 }, () => {
    expect(world.give(OTHER)).toEqual([]);
    return world.next();
  });
  expect(waits).toEqual([250, 500, 1000, 2000, 4000, 8000, 10_000].map((ms) => [ms, "register a"]));
  world.give({ kind: "failed", failure: { kind: "other", retryMs: 60_000 } });
  expect(world.next()).toEqual([60_000, "register a"]);
  world.give({ kind: "registered", leaseId: "L", ttlMs: TTL_MS });
  world.next();
  world.give(OTHER);
  expect(world.next(), "a success forgets the failures").toEqual([250, "renew a L"]);
});

test.each<{ what: string; input: SelfInput }>([
  { what: "a renewal that finds no lease", input: { kind: "renewed", isExpired: true, ttlMs: undefined } },
  { what: "lease_not_found", input: { kind: "failed", failure: { kind: "lease" } } },
])("$what: it registers again under a new lease", ({ input }) => {
  const world = new World().held();
  world.next();
  expect(world.give(input)).toEqual(["lost a expired"]);
  expect(world.next()).toEqual([250, "register a"]);
});

const EXPIRED = { kind: "renewed", isExpired: true, ttlMs: undefined } as const;

/** Registers again, and finds at the first renewal that the lease is gone. */
function lostAgain(world: World): void {
  expect(world.next()[1]).toBe("register a");
  world.give({ kind: "registered", leaseId: "L", ttlMs: TTL_MS });
  world.next();
  expect(world.give(EXPIRED)).toEqual(["lost a expired"]);
}

test("a second loss to another process under its id is told of, and each turn takes longer, up to ten minutes", () => {
  const world = new World().held();
  world.next();
  world.give(EXPIRED);
  lostAgain(world);
  const waits = Array.from({ length: 6 }, () => {
    expect(world.next()).toEqual([250, "find a"]);
    expect(world.give({ kind: "found", other: "10.0.0.9:17420" })).toEqual(["contested 10.0.0.9:17420"]);
    // Another upstream does not shorten the wait.
    world.upstream("b");
    world.upstream("a");
    const waitMs = world.machine.nextDeadlineMs() - world.nowMs;
    lostAgain(world);
    return waitMs;
  });
  expect(waits).toEqual([30_000, 60_000, 120_000, 240_000, 480_000, 600_000]);
});

test("leases that end with the lives of their server are registered again at once, and what was held for a quarter of an hour was not contested", () => {
  const world = new World().held();
  world.next();
  world.give(EXPIRED);
  lostAgain(world);
  world.next();
  expect(world.give({ kind: "found", other: undefined })).toEqual(["register a"]);
  world.give({ kind: "registered", leaseId: "L", ttlMs: TTL_MS });
  for (const startMs = world.nowMs; world.nowMs - startMs < 900_000; world.give(RENEWED)) world.next();
  world.next();
  expect(world.give(EXPIRED)).toEqual(["lost a expired"]);
  expect(world.next()).toEqual([250, "register a"]);
});

test("where nobody can be asked who has the key, it is registered again", () => {
  const world = new World().held();
  world.next();
  world.give(EXPIRED);
  lostAgain(world);
  expect(world.next()[1]).toBe("find a");
  world.give(OTHER);
  expect(world.next()[1]).toBe("register a");
});

test("renewals that fail until half of the ttl: it registers anew while the lease still holds", () => {
  const world = new World().held();
  world.next();
  const said: string[] = [];
  while (said.length === 0) {
    said.push(...world.give(OTHER));
    if (said.length === 0) world.next();
  }
  expect([said, world.nowMs]).toEqual([["lost a server"], 250 + TTL_MS / 2]);
  expect(world.next()[1]).toBe("register a");
});

test("another upstream is followed: if the server of the lease still answers the lease stays, and if not it registers there at once", () => {
  const world = new World().held();
  expect(world.upstream("b")).toEqual([]);
  expect(world.next()).toEqual([250, "renew a L"]);
  world.give(RENEWED);
  expect(world.next()).toEqual([7500, "renew a L"]);
  expect(world.give(OTHER)).toEqual(["lost a server", "register b"]);
});

test("without an upstream the lease is renewed at its server", () => {
  const world = new World().held();
  world.upstream(undefined);
  expect(world.next()).toEqual([7500, "renew a L"]);
  world.give(OTHER);
  expect(world.next()).toEqual([250, "renew a L"]);
});

test("a changed entry is registered under the same lease, at most once in 5 s, and what fails is tried again while renewals go on", () => {
  const world = new World().held();
  const changed = { kind: "changed" } as const;
  const registered = { kind: "registered", leaseId: "L", ttlMs: TTL_MS } as const;
  expect(world.give(changed)).toEqual([]);
  expect(world.next()).toEqual([5000, "register a L"]);
  world.give(changed);
  expect(world.give(registered), "it changed while it was on its way").toEqual([]);
  expect(world.next()).toEqual([5000, "register a L"]);
  world.give(OTHER);
  expect(world.next(), "the renewal is due first").toEqual([2500, "renew a L"]);
  world.give(RENEWED);
  expect(world.next()).toEqual([2500, "register a L"]);
  world.give({ kind: "failed", failure: { kind: "lease" } });
  expect(world.next()).toEqual([250, "register a"]);
});

test("an upstream that takes no writes names nodes: it registers at one of them, and asks again when none takes it", () => {
  const world = new World();
  world.upstream("r");
  world.next();
  expect(world.give({ kind: "failed", failure: { kind: "read only", nodes: ["r", "n1", "n2"] } })).toEqual(["register n1"]);
  world.give(OTHER);
  expect(world.next()[1]).toBe("register n2");
  expect(world.give({ kind: "registered", leaseId: "L", ttlMs: TTL_MS })).toEqual(["registered n2"]);
  expect(world.next()).toEqual([7500, "renew n2 L"]);
  expect(world.give(OTHER)).toEqual(["lost n2 server", "register r"]);
  // A node that says it is a resolver too is no node, and leads nowhere else.
  world.give({ kind: "failed", failure: { kind: "read only", nodes: ["n3"] } });
  world.give({ kind: "failed", failure: { kind: "read only", nodes: ["n4"] } });
  expect(world.next()[1]).toBe("register r");
});

test("nodes that one upstream named are left with it: the next upstream is asked itself", () => {
  const world = new World();
  world.upstream("r");
  world.next();
  expect(world.give({ kind: "failed", failure: { kind: "read only", nodes: ["n1", "n2"] } })).toEqual(["register n1"]);
  world.give(OTHER);
  world.upstream("a");
  expect(world.next()[1]).toBe("register a");
});

test("an upstream that takes no writes and names nobody is told of once, and asked again after a minute, or when it is another", () => {
  const world = new World();
  world.upstream("r");
  world.next();
  const refusal = { kind: "failed", failure: { kind: "read only", nodes: [] } } as const;
  expect(world.give(refusal)).toEqual(["left out r"]);
  expect(world.next()).toEqual([60_000, "register r"]);
  expect(world.give(refusal)).toEqual([]);
  world.upstream("a");
  expect(world.next()).toEqual([250, "register a"]);
});

test("at the end it unregisters what it holds, and orders nothing any more", () => {
  const world = new World().held();
  expect(world.give({ kind: "close" })).toEqual(["unregister a L"]);
  expect([world.machine.nextDeadlineMs(), world.upstream("b"), world.give({ kind: "close" })]).toEqual([Number.POSITIVE_INFINITY, [], []]);
  expect(new World().give({ kind: "close" })).toEqual([]);
});

test("an answer that nobody waits for changes nothing", () => {
  const world = new World().held();
  for (const input of [OTHER, RENEWED, { kind: "registered", leaseId: "M", ttlMs: 1 }] as const) expect(world.give(input)).toEqual([]);
  expect([world.machine.lease?.leaseId, world.machine.nextDeadlineMs()]).toEqual(["L", 250 + 7500]);
});
