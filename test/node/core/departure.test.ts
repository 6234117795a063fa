/** What a node does before its process ends, over a real registrar and a disk that answers when the test says so. */
import { expect, test } from "vitest";
import { BODY } from "../../../src/catalog/record/record.ts";
import { CommitCycle } from "../../../src/discovery/registrar/commit-cycle.ts";
import { type DepartureOrders, NodeDeparture } from "../../../src/node/core/departure.ts";
import { at, caller, command, Registry, stamped } from "../../fakes/registry.ts";

function leaving(takers: readonly string[] = ["b"], refusals: () => number = () => 0) {
  const r = new Registry();
  const commits = new CommitCycle(r.registrar, at(0));
  let isStopped = false;
  const fabric = {
    isStopped: () => isStopped,
    leaving: { takers: () => takers.map((nodeId) => ({ nodeId, refusals: refusals(), runsChecks: true })) },
  };
  const snapshots = { isOver: true, last: () => void snapshots.asked.push("last"), asked: [] as string[] };
  const departure = new NodeDeparture({ registrar: r.registrar, commits, fabric: fabric as never, snapshots });
  const orders: DepartureOrders[] = [];
  const all = { fault: false };
  /** Steps, and lets the disk answer, each 5 ms. */
  const run = (fromMs: number, toMs: number, on: (order: DepartureOrders, ms: number) => void = () => {}) => {
    for (let ms = fromMs; ms <= toMs; ms += 5) {
      const order = departure.step(at(ms));
      if (order.inputs.length > 0 || order.gone !== undefined || order.handedOver !== undefined) orders.push(order);
      on(order, ms);
      if (commits.start() === undefined) continue;
      if (all.fault) {
        commits.refused();
        departure.refused(at(ms));
      } else commits.landed(at(ms));
    }
  };
  const register = (name: string, isStatic: boolean) =>
    r.registrar.register(caller("ann"), command([stamped(name)], isStatic ? { isStatic } : { ttlMs: 60_000 }), at(0));
  const flush = () => {
    commits.start();
    commits.landed(at(0));
  };
  return { r, commits, departure, snapshots, orders, run, register, flush, all, stopped: () => (isStopped = true) };
}

const kinds = (orders: readonly DepartureOrders[]) => orders.flatMap(({ inputs }) => inputs.map(({ kind }) => kind));

test("what ends with it has ended before anything is offered, and what is taken at once is handed over at once", () => {
  const { r, departure, orders, run, register, flush, stopped } = leaving();
  register("lease", false);
  register("web", true);
  flush();
  expect([departure.hasBegun, kinds([departure.begin(true, 10_000, at(0))]), departure.hasBegun]).toEqual([false, ["leaving"], true]);
  run(0, 200, ({ inputs }, ms) => {
    for (const { kind } of inputs) {
      if (kind !== "offer") continue;
      expect(r.names()).toEqual(["web"]);
      r.hear("web", BODY.ENTRY, 1, at(ms));
    }
  });
  expect(kinds(orders)).toEqual(["offer", "stop"]);
  expect(orders.at(-1)).toMatchObject({ inputs: [{ reason: "leave" }], handedOver: { takenCount: 1, leftCount: 0, localEndedCount: 0 } });
  expect(departure.step(at(201)).gone).toBeUndefined();
  stopped();
  expect([departure.step(at(205)).gone, departure.step(at(206)).gone]).toEqual(["leave", undefined]);
});

test("what nobody takes in half of the time stands, and it says that it restarts; then it waits for its goodbye no longer than it has", () => {
  const { r, departure, orders, run, register, flush } = leaving();
  register("web", true);
  flush();
  departure.begin(true, 10_000, at(0));
  run(0, 4990);
  expect(kinds(orders)).not.toContain("stop");
  run(5000, 5010);
  expect([orders.at(-1)?.handedOver?.leftCount, r.names()]).toEqual([1, ["web"]]);
  expect(orders.at(-1)?.inputs).toMatchObject([{ kind: "stop", reason: "restart" }]);
  const endMonoMs = departure.nextDeadlineMs();
  expect(endMonoMs - at(7500).monoMs).toBeLessThan(10);
  expect(departure.step({ ...at(0), monoMs: endMonoMs - 1 }).gone).toBeUndefined();
  expect(departure.step({ ...at(0), monoMs: endMonoMs }).gone).toBe("restart");
});

test.each([
  { what: "refuses", isRefusing: true, unansweredCount: 0 },
  { what: "does not answer, and may yet", isRefusing: false, unansweredCount: 1 },
])("of what is left it says what was offered to a node that $what", ({ isRefusing, unansweredCount }) => {
  let refusals = 0;
  const { departure, orders, run, register, flush } = leaving(["b"], () => refusals);
  register("web", true);
  flush();
  departure.begin(true, 10_000, at(0));
  run(0, 5010, ({ inputs }) => {
    if (isRefusing && inputs.some(({ kind }) => kind === "offer")) refusals += 1;
  });
  expect(kinds(orders)).toContain("offer");
  expect(orders.at(-1)?.handedOver).toMatchObject({ takenCount: 0, leftCount: 1, unansweredCount });
});

test("a batch that the disk refuses ends nothing: what it should have ended is ended as soon as the disk is well", () => {
  const { r, departure, run, register, flush, all } = leaving();
  register("lease", false);
  flush();
  all.fault = true;
  departure.begin(true, 10_000, at(0));
  run(0, 1000);
  expect(r.names()).toEqual(["lease"]);
  all.fault = false;
  run(1005, 1100);
  expect(r.names()).toEqual([]);
});

test("alone it keeps everything, says so at once, and a second begin changes nothing", () => {
  const { r, departure, register, flush } = leaving([]);
  register("web", true);
  flush();
  const begun = departure.begin(false, 1000, at(0));
  expect([begun.inputs, begun.handedOver, r.names()]).toMatchObject([[{ kind: "stop", reason: "restart" }], undefined, ["web"]]);
  expect(departure.begin(true, 9000, at(1)).inputs).toEqual([]);
});

test("it is gone when the last snapshot is written, or its time is over", () => {
  for (const isWritten of [true, false]) {
    const { departure, snapshots, stopped } = leaving([]);
    snapshots.isOver = false;
    departure.begin(false, 1000, at(0));
    stopped();
    expect([snapshots.asked, departure.step(at(10)).gone, departure.nextDeadlineMs()]).toEqual([["last"], undefined, at(1000).monoMs]);
    snapshots.isOver = isWritten;
    expect([departure.step(at(999)).gone, departure.step(at(1000)).gone]).toEqual(
      isWritten ? ["restart", undefined] : [undefined, "restart"],
    );
  }
});

test("it is gone when its time is over, though the disk never says what became of a batch", () => {
  const { commits, departure, register, flush } = leaving();
  register("lease", false);
  flush();
  departure.begin(true, 1000, at(0));
  departure.step(at(0));
  expect([commits.start() === undefined, departure.nextDeadlineMs()]).toEqual([false, at(1000).monoMs]);
  expect([departure.step(at(999)).gone, departure.step(at(1000)).gone, departure.hasBegun]).toEqual([undefined, "restart", true]);
});
