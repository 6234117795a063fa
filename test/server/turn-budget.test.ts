/** How much of a turn of the event loop goes to streams whose readers take what they are told at once. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { TurnBudget } from "../../src/server/turn-budget.ts";

/** A loop that turns, and a clock that moves, when a test says so. */
class Loop {
  monoMs = 0;
  turnCount = 0;
  #ends: (() => void)[] = [];
  readonly budget = new TurnBudget({ nowMs: () => this.monoMs, onEnd: (act) => void this.#ends.push(act) });

  get isIdle(): boolean {
    return this.#ends.length === 0;
  }

  turn(): void {
    const ends = this.#ends;
    this.#ends = [];
    this.turnCount += 1;
    for (const end of ends) end();
  }

  act(work: () => void): void {
    if (this.budget.mayAct()) work();
    else this.budget.wait(work);
  }
}

test("acts of one turn run at once for two milliseconds, and the others in the turns that follow", () => {
  const loop = new Loop();
  const done: string[] = [];
  for (const name of ["a", "b", "c", "d", "e"])
    loop.act(() => {
      done.push(`${name}${loop.turnCount}`);
      loop.monoMs += 1;
    });
  expect(done).toEqual(["a0", "b0"]);
  loop.turn();
  expect(done).toEqual(["a0", "b0", "c1", "d1"]);
  loop.turn();
  expect(done).toEqual(["a0", "b0", "c1", "d1", "e2"]);
  loop.turn();
  expect(loop.isIdle).toBe(true);
});

test("a turn in which nobody acted leaves nothing behind: the next act is at once, however late it is", () => {
  const loop = new Loop();
  loop.act(() => {});
  loop.turn();
  loop.monoMs += 60_000;
  let isDone = false;
  loop.act(() => (isDone = true));
  expect(isDone).toBe(true);
});

test("who acts again and again waits behind all who waited before", () => {
  const loop = new Loop();
  const order: string[] = [];
  const again = (name: string, left: number): void =>
    loop.act(() => {
      order.push(name);
      loop.monoMs += 2;
      if (left > 0) again(name, left - 1);
    });
  loop.act(() => (loop.monoMs += 2));
  for (const name of ["a", "b", "c"]) again(name, 2);
  while (!loop.isIdle) loop.turn();
  expect(order).toEqual(["a", "b", "c", "a", "b", "c", "a", "b", "c"]);
});

test("an act that takes longer than a turn may is followed by no other in its turn, and all acts are run once", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 60 }), (costs) => {
      const loop = new Loop();
      const done: number[] = [];
      const spent = new Map<number, number[]>();
      for (const [i, cost] of costs.entries())
        loop.act(() => {
          done.push(i);
          loop.monoMs += cost;
          spent.set(loop.turnCount, [...(spent.get(loop.turnCount) ?? []), cost]);
        });
      for (let turns = 0; !loop.isIdle; turns++) {
        expect(turns).toBeLessThan(200);
        loop.turn();
      }
      expect(done).toEqual(costs.map((_, i) => i));
      for (const inTurn of spent.values()) expect(inTurn.slice(0, -1).reduce((sum, cost) => sum + cost, 0)).toBeLessThan(2);
    }),
  );
});
