import { expect, test } from "vitest";
import { Registration, type RegistrationFailure, type RegistrationInput, type RegistrationOutput } from "../../src/client/registration.ts";
import { Rng } from "../../src/lib/rng.ts";

const TTL_MS = 30_000;
const AWAY: RegistrationFailure = { isPassing: true, isDenied: false, retryMs: undefined };
const DENIED: RegistrationFailure = { isPassing: false, isDenied: true, retryMs: undefined };
const WRONG: RegistrationFailure = { isPassing: false, isDenied: false, retryMs: undefined };

/** What a server does with a call. */
type Answer = "ok" | "expired" | "away" | "denied" | "wrong";

/** A machine in virtual time, with a server that answers each call after 5 ms. */
class World {
  nowMs = 0;
  readonly machine: Registration;
  /** All orders, with the time of each. */
  readonly orders: (RegistrationOutput & { readonly atMs: number })[] = [];
  answer: Answer = "ok";
  /** What comes of an update. */
  updateAnswer: "ok" | "away" = "ok";
  #leases = 0;
  #pending: { readonly atMs: number; readonly input: RegistrationInput } | undefined;

  constructor(seed = "registration") {
    const rng = new Rng(seed);
    this.machine = new Registration(() => rng.next(), this.#time);
  }

  get #time() {
    return { monoMs: this.nowMs, wallMs: 0 };
  }

  input(input: RegistrationInput): void {
    const out: RegistrationOutput[] = [];
    this.machine.handle(input, this.#time, out);
    for (const order of out) {
      this.orders.push({ ...order, atMs: this.nowMs });
      if (order.kind === "register" || order.kind === "renew" || order.kind === "update")
        this.#pending = { atMs: this.nowMs + 5, input: this.#inputAfter(order) };
    }
  }

  /** Lets time pass. */
  run(ms: number): void {
    const endMs = this.nowMs + ms;
    for (;;) {
      const nextMs = Math.min(this.machine.nextDeadlineMs(), this.#pending?.atMs ?? Infinity);
      if (nextMs > endMs) break;
      this.nowMs = Math.max(this.nowMs, nextMs);
      const pending = this.#pending;
      this.#pending = undefined;
      this.input(pending?.input ?? { kind: "tick" });
    }
    this.nowMs = endMs;
  }

  /** Kinds of orders, with the kinds of what was told. */
  kinds(): readonly string[] {
    return this.orders.map((order) => (order.kind === "event" ? `told ${order.event.kind}` : order.kind));
  }

  timesOf(kind: RegistrationOutput["kind"]): readonly number[] {
    return this.orders.filter((order) => order.kind === kind).map(({ atMs }) => atMs);
  }

  #inputAfter(order: RegistrationOutput): RegistrationInput {
    if (order.kind === "update" && this.updateAnswer === "away") return { kind: "updateFailed", failure: AWAY };
    if (order.kind === "update") return { kind: "updated" };
    if (this.answer === "away") return { kind: "failed", failure: AWAY };
    if (this.answer === "denied") return { kind: "failed", failure: DENIED };
    if (this.answer === "wrong") return { kind: "failed", failure: WRONG };
    if (order.kind === "renew") return { kind: "renewed", isExpired: this.answer === "expired", ttlMs: TTL_MS };
    this.#leases += 1;
    return { kind: "registered", leaseId: `lease-${this.#leases}`, server: "a:1", ttlMs: TTL_MS };
  }
}

test("it registers at once, and renews after a quarter to a third of the ttl, at the server that has the lease", () => {
  const world = new World();
  world.run(10 * 60_000);
  expect(world.kinds().slice(0, 4)).toEqual(["register", "told registered", "renew", "told renewed"]);
  const times = world.timesOf("renew");
  const gaps = times.slice(1).map((atMs, i) => atMs - (times[i] ?? 0));
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(TTL_MS / 4);
  expect(Math.max(...gaps)).toBeLessThanOrEqual(TTL_MS / 3);
  expect(new Set(gaps).size).toBeGreaterThan(10);
  expect(world.timesOf("register")).toEqual([0]);
});

test("a lease that the server does not know leads to a new one", () => {
  const world = new World();
  world.run(1000);
  world.answer = "expired";
  world.run(TTL_MS / 3);
  world.answer = "ok";
  world.run(TTL_MS);
  const told = world.orders.flatMap((order) => (order.kind === "event" && order.event.kind !== "renewed" ? [order.event] : []));
  expect(told).toEqual([
    { kind: "registered", leaseId: "lease-1", server: "a:1", isAgain: false },
    { kind: "lost", leaseId: "lease-1", server: "a:1", why: "expired" },
    { kind: "registered", leaseId: "lease-2", server: "a:1", isAgain: true },
  ]);
});

test("a client whose lease has ended tries again at least as often as it renews", () => {
  const world = new World();
  world.run(1000);
  world.answer = "away";
  world.run(20 * TTL_MS);
  const times = world.timesOf("register").slice(1);
  const gaps = times.slice(1).map((atMs, i) => atMs - (times[i] ?? 0));
  expect(gaps.length).toBeGreaterThan(20);
  expect(Math.max(...gaps)).toBeLessThanOrEqual(TTL_MS / 3 + 10);
});

test("a short outage costs a few renewals, and no registration", () => {
  const world = new World();
  world.run(7_000);
  world.answer = "away";
  world.run(5_000);
  world.answer = "ok";
  world.run(TTL_MS);
  expect(world.timesOf("register")).toEqual([0]);
  expect(world.kinds()).toContain("told retrying");
});

test("a server that is lost for half of the ttl is left, while the lease still holds", () => {
  const world = new World();
  world.run(100);
  world.answer = "away";
  world.run(TTL_MS);
  const [left] = world.timesOf("leave");
  expect(left).toBeGreaterThanOrEqual(TTL_MS / 2);
  expect(left).toBeLessThan(TTL_MS / 2 + 1000);
  const tries = world.timesOf("register");
  expect(tries[1]).toBe(left);
  // Until a server takes the registration it goes on, slower and slower.
  expect(tries.length).toBeGreaterThan(3);
  world.answer = "ok";
  world.run(10_000);
  expect(world.machine.lease).toEqual({ leaseId: "lease-2", server: "a:1", ttlMs: TTL_MS, sinceMonoMs: expect.any(Number) as number });
});

test("tries of one registration have one number, and the next registration has another", () => {
  const world = new World();
  world.answer = "away";
  world.run(5_000);
  world.answer = "ok";
  world.run(10_000);
  world.answer = "expired";
  for (let i = 0; i < 2000 && !world.kinds().includes("told lost"); i++) world.run(10);
  world.answer = "ok";
  world.run(1000);
  const attempts = world.orders.flatMap((order) => (order.kind === "register" ? [order.attempt] : []));
  expect(attempts.length).toBeGreaterThan(3);
  expect([attempts[0], attempts[1], attempts.at(-1)]).toEqual([1, 1, 2]);
});

test.each([
  { when: "a refused caller at the first registration", afterMs: 0, answer: "denied" },
  { when: "a wrong request at the first registration", afterMs: 0, answer: "wrong" },
  { when: "a wrong request at a renewal", afterMs: 1000, answer: "wrong" },
] as const)("what cannot be mended ends it: $when", ({ afterMs, answer }) => {
  const world = new World();
  if (afterMs > 0) world.run(afterMs);
  world.answer = answer;
  world.run(TTL_MS);
  const before = world.orders.length;
  expect(world.kinds().at(-1)).toBe("told failed");
  world.run(10 * TTL_MS);
  expect([world.orders.length, world.machine.nextDeadlineMs()]).toEqual([before, Infinity]);
});

test("who was let in before and is refused goes on trying, and registers again when it is let in", () => {
  const world = new World();
  world.run(1000);
  world.answer = "expired";
  world.run(TTL_MS / 3);
  world.answer = "denied";
  world.run(100 * TTL_MS);
  const tries = world.timesOf("register").length;
  expect([tries > 50, world.kinds().includes("told failed")]).toEqual([true, false]);
  // No more than one in some seconds.
  expect(tries).toBeLessThan((100 * TTL_MS) / 5000);
  world.answer = "ok";
  world.run(TTL_MS);
  expect(world.machine.lease).toBeDefined();
});

test("an urgent report is a renewal at once, any other report waits for the next one", () => {
  const world = new World();
  world.run(1000);
  world.input({ kind: "report", isUrgent: false });
  expect(world.timesOf("renew")).toEqual([]);
  world.input({ kind: "report", isUrgent: true });
  expect(world.timesOf("renew")).toEqual([1000]);
  // One that comes while a renewal is under way is not forgotten.
  world.input({ kind: "report", isUrgent: true });
  world.run(100);
  expect(world.timesOf("renew")).toEqual([1000, 1005]);
});

test("an update goes out at once under the lease, after the call that is under way", () => {
  const world = new World();
  world.input({ kind: "update", isWaiting: true });
  world.run(100);
  world.input({ kind: "report", isUrgent: true });
  world.input({ kind: "update", isWaiting: true });
  world.run(100);
  expect(world.kinds()).toEqual(["register", "told registered", "update", "renew", "told renewed", "update"]);
  expect(world.timesOf("update")).toEqual([5, 105]);
  expect(world.orders.find(({ kind }) => kind === "update")).toMatchObject({ leaseId: "lease-1", server: "a:1" });
  // It is no renewal.
  world.run(TTL_MS / 3);
  expect(world.timesOf("renew").length).toBe(2);
});

test("a renewal that is due together with an update comes first", () => {
  const world = new World();
  world.run(100);
  world.input({ kind: "report", isUrgent: true });
  world.input({ kind: "report", isUrgent: true });
  world.input({ kind: "update", isWaiting: true });
  world.run(100);
  expect(world.kinds().slice(2)).toEqual(["renew", "told renewed", "renew", "told renewed", "update"]);
});

test("while an update fails it is tried again, less and less often, and renewals go on; one that does not wait any more is not tried", () => {
  const world = new World();
  world.run(100);
  world.updateAnswer = "away";
  world.input({ kind: "update", isWaiting: true });
  // Another one that waits behind it hurries nothing.
  world.run(10_000);
  const before = world.orders.length;
  world.input({ kind: "update", isWaiting: true });
  expect(world.orders.length).toBe(before);
  world.run(4 * TTL_MS);
  const tries = world.timesOf("update").length;
  expect([tries > 10, tries < 30, world.kinds().includes("told lost")]).toEqual([true, true, false]);
  const renewals = world.timesOf("renew");
  expect(renewals.length).toBeGreaterThan(11);
  world.input({ kind: "update", isWaiting: false });
  world.run(TTL_MS);
  expect(world.timesOf("update").length).toBe(tries);
  world.updateAnswer = "ok";
  world.input({ kind: "update", isWaiting: true });
  expect(world.orders.at(-1)).toMatchObject({ kind: "update" });
});

test("an update that waits while the lease is lost goes out under the next one at once", () => {
  const world = new World();
  world.run(100);
  world.updateAnswer = "away";
  world.input({ kind: "update", isWaiting: true });
  world.run(5000);
  world.answer = "expired";
  for (let i = 0; i < 2000 && !world.kinds().includes("told lost"); i++) world.run(10);
  world.answer = "ok";
  world.updateAnswer = "ok";
  world.run(1000);
  const last = world.orders.slice(-3);
  expect(last.map(({ kind }) => kind)).toEqual(["register", "event", "update"]);
  expect(last[2]).toMatchObject({ leaseId: "lease-2", atMs: last[1]?.atMs });
});

test("ticks that come too early, or twice, change nothing", () => {
  const [plain, ticked] = [new World(), new World()];
  for (let i = 0; i < 500; i++) {
    plain.run(137);
    ticked.run(137);
    ticked.input({ kind: "tick" });
    ticked.input({ kind: "tick" });
  }
  expect(ticked.orders).toEqual(plain.orders);
});

test("closing removes the lease, and an answer that comes later changes nothing", () => {
  const world = new World();
  world.run(1000);
  world.input({ kind: "close" });
  expect(world.orders.at(-1)).toMatchObject({ kind: "unregister", leaseId: "lease-1", server: "a:1" });
  world.input({ kind: "renewed", isExpired: true, ttlMs: undefined });
  world.input({ kind: "close" });
  expect([world.kinds().filter((kind) => kind === "unregister").length, world.machine.nextDeadlineMs()]).toEqual([1, Infinity]);
});

test("a thousand programs whose server was away for a minute come back within 15 s, at most a fifth of them in one second", () => {
  const backMs = Array.from({ length: 1000 }, (_, i) => {
    const world = new World(`program ${i}`);
    world.run(10_000);
    world.answer = "away";
    world.run(60_000);
    world.answer = "ok";
    world.run(20_000);
    return (world.orders.findLast(({ kind }) => kind === "register")?.atMs ?? 0) - 70_000;
  });
  expect(Math.max(...backMs)).toBeLessThan(15_000);
  const perSecond = Array.from({ length: 15 }, (_, second) => backMs.filter((ms) => Math.floor(ms / 1000) === second).length);
  expect(Math.max(...perSecond)).toBeLessThanOrEqual(200);
});

test("while no outage lasts for a sixth of the ttl, the lease never runs out and is never given up", () => {
  for (let run = 0; run < 50; run++) {
    const rng = new Rng(`faults ${run}`);
    const world = new World(`run ${run}`);
    world.run(100);
    for (let i = 0; i < 100; i++) {
      world.answer = i % 2 === 0 ? "ok" : "away";
      world.run(i % 2 === 0 ? TTL_MS / 3 + rng.int(TTL_MS) : rng.int(TTL_MS / 6));
    }
    const held = world.orders.flatMap((order) =>
      order.kind === "event" && ["renewed", "registered"].includes(order.event.kind) ? [order.atMs] : [],
    );
    const gaps = held.slice(1).map((atMs, i) => atMs - (held[i] ?? 0));
    expect(Math.max(...gaps)).toBeLessThan(TTL_MS);
    expect(world.kinds()).not.toContain("told lost");
  }
});
