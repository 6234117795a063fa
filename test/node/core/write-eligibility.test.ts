/** What keeps a node from taking writes, or from being ready (semantics.md, Two nodes with one id; Names and bounds). */
import { expect, test } from "vitest";
import type { IdentityConflict } from "../../../src/fabric/membership/identity-dispute.ts";
import { type FabricView, WriteEligibility } from "../../../src/node/core/write-eligibility.ts";

const TIME = { monoMs: 1000, wallMs: 1_760_000_000_000 };
const RIGHT = { knownCount: 2, offCount: 0, isOff: false, aheadMs: 0, isUnheard: false };

/** A node as others see it. */
class Others {
  dispute: IdentityConflict | undefined;
  isUnconfirmed = false;
  refuserCount = 0;
  alive = 0;
  suspect = 0;
  isReady = true;
  reason = "caught_up";
  knownClockCount = 2;

  get seen(): FabricView {
    const refusers = Array.from({ length: this.refuserCount }, (_, i) => ({ nodeId: `n${i}`, why: "too long" }));
    const membership = {
      askClocks: () => {},
      clock: () => ({ ...RIGHT, knownCount: this.knownClockCount }),
      counts: () => ({ alive: this.alive, suspect: this.suspect, left: 0, dead: 0, conflicts: 0 }),
      dispute: () => this.dispute,
      hasJoined: true,
      isUnconfirmed: () => this.isUnconfirmed,
      refusers: () => refusers,
    };
    const readiness = { isReady: this.isReady, read: () => ({ reason: this.reason, detail: "turned away" }) };
    return { membership, readiness } as unknown as FabricView;
  }
}

function open() {
  const others = new Others();
  const writeEligibility = new WriteEligibility("n", false);
  const look = () => writeEligibility.look(others.seen, { address: "n:1", isReady: true }, TIME);
  return { others, writeEligibility, look };
}

test("nothing waits in normal operation", () => {
  const { others, writeEligibility, look } = open();
  look();
  expect([
    writeEligibility.mustConfirm(others.seen, TIME),
    writeEligibility.takeConfirmed(others.seen, TIME),
    writeEligibility.fault,
  ]).toEqual([false, false, ""]);
  expect(() => writeEligibility.checkWrites()).not.toThrow();
});

test("the clock is reported in sync with peers only if a peer's clock is known", () => {
  const { others, writeEligibility, look } = open();
  expect([writeEligibility.clockFault, writeEligibility.clockDetail]).toEqual(["", "no peer clocks to compare with"]);
  look();
  expect(writeEligibility.clockDetail).toBe("in sync with peers");
  others.knownClockCount = 0;
  writeEligibility.look(others.seen, { address: "n:1", isReady: true }, { ...TIME, monoMs: TIME.monoMs + 1000 });
  expect([writeEligibility.clockFault, writeEligibility.clockDetail]).toEqual(["", "no peer clocks to compare with"]);
});

test("after a standstill who asks waits until others have answered, and is told once", () => {
  const { others, writeEligibility, look } = open();
  others.isUnconfirmed = true;
  expect(writeEligibility.mustConfirm(others.seen, TIME)).toBe(true);
  look();
  expect(writeEligibility.takeConfirmed(others.seen, TIME)).toBe(false);
  others.isUnconfirmed = false;
  look();
  expect([writeEligibility.takeConfirmed(others.seen, TIME), writeEligibility.takeConfirmed(others.seen, TIME)]).toEqual([true, false]);
});

test("who waits is told at once when another start goes under this id, and nothing is written then", () => {
  const { others, writeEligibility, look } = open();
  others.isUnconfirmed = true;
  writeEligibility.mustConfirm(others.seen, TIME);
  others.dispute = { nodeIds: ["m"], otherAddress: "x:1" };
  expect(look().isLost).toBe(true);
  expect(writeEligibility.takeConfirmed(others.seen, TIME)).toBe(true);
  expect(writeEligibility.refusal?.reason).toBe("not_ready");
  for (const check of [() => writeEligibility.checkStart(), () => writeEligibility.checkWrites()])
    expect(check).toThrow("another process with node id n at x:1 was accepted by");
  expect(writeEligibility.isWaiting).toBe(true);
});

test("more than half of the others must refuse what a node says of itself before it is not ready; it may write all the same", () => {
  const { others, writeEligibility, look } = open();
  const isFaultless = (refuserCount: number, alive: number, suspect: number) => {
    Object.assign(others, { refuserCount, alive, suspect });
    look();
    return writeEligibility.fault === "";
  };
  expect([isFaultless(0, 0, 0), isFaultless(1, 1, 1), isFaultless(2, 2, 1), isFaultless(2, 3, 1), isFaultless(1, 1, 0)]).toEqual([
    true,
    true,
    false,
    true,
    false,
  ]);
  expect(() => writeEligibility.checkWrites()).not.toThrow();
});

test("who was turned away where it was to join takes no writes until it has been ready", () => {
  const { others, writeEligibility, look } = open();
  Object.assign(others, { isReady: false, reason: "refused" });
  look();
  expect(() => writeEligibility.checkWrites()).toThrow("not_ready: turned away");
  expect(() => writeEligibility.checkStart()).not.toThrow();
  others.isReady = true;
  look();
  expect(() => writeEligibility.checkWrites()).not.toThrow();
});
