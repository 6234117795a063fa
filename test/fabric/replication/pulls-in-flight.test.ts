/** Which peer is asked for an origin, and when the next one is: after as long as answers take. */
import { expect, test } from "vitest";
import { ReplicatingNode } from "../../fakes/replication.ts";

const OPTIONS = { fetchTimeoutMs: 1000, fetchMaxWaitMs: 30_000, newsTimeoutMs: 400, newsMaxWaitMs: 1000, maxOrigins: 1000 };
const NEWS = { wanted: 1, isNews: true as boolean };

type Fetcher = Parameters<ReplicatingNode["shared"]["addPuller"]>[0];
type Time = Parameters<ReplicatingNode["shared"]["takeFetch"]>[2];

/** What links of a node ask for: of each origin as much is here as the question says. */
class Fetches {
  readonly #node = new ReplicatingNode({ nodeId: "me", options: OPTIONS });

  take({ id, through }: Held, who: Fetcher, time: Time, wish: typeof NEWS): boolean {
    this.#origin({ id, through });
    return this.#node.shared.takeFetch(id, who, time, wish);
  }

  arrived(held: Held, time: Time): void {
    this.#node.shared.arrived(this.#origin(held), time);
  }

  postpone(byMs: number): void {
    this.#node.shared.postpone(byMs);
  }

  #origin({ id, through }: Held) {
    const { replica, place } = this.#node;
    const [nodeId = "", generation] = id.split("/");
    const origin = replica.origin(nodeId, Number(generation), place);
    origin.through = through;
    return origin;
  }
}

interface Held {
  readonly id: string;
  readonly through: number;
}

function puller(peerNodeId: string, receivedMonoMs = Number.NEGATIVE_INFINITY): Fetcher {
  const nothing = () => {};
  return { peerNodeId, receivedMonoMs, reconsider: nothing, lacking: [], hasWholeVector: true, postpone: nothing, disbelieve: nothing };
}

const at = (monoMs: number) => ({ monoMs, wallMs: 0 });

/** After how many ms a second peer is asked for news that does not come. */
function waits(fetches: Fetches, fromMs: number, a = puller("a")): number {
  const b = puller("b");
  const id = `o/${fromMs}`;
  expect(fetches.take({ id, through: 0 }, a, at(fromMs), NEWS)).toBe(true);
  for (let ms = 1; ms < 60_000; ms++) if (fetches.take({ id, through: 0 }, b, at(fromMs + ms), NEWS)) return ms;
  throw new Error("never");
}

/** News that is asked for, and comes after so long. */
function answer(fetches: Fetches, tookMs: readonly number[], fromMs = 0): void {
  tookMs.forEach((ms, n) => {
    const id = `x/${n}`;
    const askMs = fromMs + 10_000 * n;
    fetches.take({ id, through: 0 }, puller("a"), at(askMs), NEWS);
    fetches.arrived({ id, through: 1 }, at(askMs + ms));
  });
}

test.each([
  { what: "before anything came", tookMs: [], from: 400, to: 400 },
  { what: "where answers come at once", tookMs: Array(30).fill(20), from: 400, to: 400 },
  { what: "where answers take half a second, always", tookMs: Array(60).fill(500), from: 500, to: 520 },
  { what: "where some take long", tookMs: Array.from({ length: 60 }, (_, n) => (n % 4 === 0 ? 900 : 150)), from: 900, to: 2500 },
  { what: "where they take very long, as long as it is waited at most", tookMs: Array(60).fill(20_000), from: 3000, to: 3000 },
])("news that does not come is asked of another peer after a while: $what", ({ tookMs, from, to }) => {
  const fetches = new Fetches();
  answer(fetches, tookMs);
  const waited = waits(fetches, 1_000_000);
  expect(waited).toBeGreaterThanOrEqual(from);
  expect(waited).toBeLessThanOrEqual(to);
});

test("an answer that another peer gave counts from the first question: the wait grows where answers are late", () => {
  const fetches = new Fetches();
  for (let n = 0; n < 40; n++) {
    const id = `x/${n}`;
    const askMs = 10_000 * n;
    fetches.take({ id, through: 0 }, puller("a"), at(askMs), NEWS);
    fetches.take({ id, through: 0 }, puller("b"), at(askMs + 1000), NEWS);
    fetches.arrived({ id, through: 1 }, at(askMs + 1100));
  }
  expect(waits(fetches, 1_000_000)).toBeGreaterThan(1000);
});

test("what a standstill of this node added is no answer's time, and whole transfers are none", () => {
  const fetches = new Fetches();
  for (let n = 0; n < 20; n++) {
    const id = `x/${n}`;
    fetches.take({ id, through: 0 }, puller("a"), at(100_000 * n), NEWS);
    fetches.postpone(20_000);
    fetches.arrived({ id, through: 1 }, at(100_000 * n + 20_010));
    fetches.take({ id: `y/${n}`, through: 0 }, puller("a"), at(100_000 * n), { wanted: 1, isNews: false });
    fetches.arrived({ id: `y/${n}`, through: 1 }, at(100_000 * n + 50_000));
  }
  expect(waits(fetches, 10_000_000)).toBe(400);
});

test("after one answer it is waited for three times as long as that took (RFC 6298, 2.2)", () => {
  const fetches = new Fetches();
  answer(fetches, [600]);
  expect(waits(fetches, 10_000)).toBe(1800);
});

test("one answer that took an hour is soon forgotten", () => {
  const fetches = new Fetches();
  answer(fetches, [3_600_000]);
  answer(fetches, Array(30).fill(20), 4_000_000);
  expect(waits(fetches, 5_000_000)).toBeLessThan(1000);
});

test("news that comes piece by piece took as long as its last piece", () => {
  const fetches = new Fetches();
  const wish = { wanted: 3, isNews: true };
  for (let n = 0; n < 30; n++) {
    const id = `x/${n}`;
    const askMs = 10_000 * n;
    fetches.take({ id, through: 0 }, puller("a"), at(askMs), wish);
    fetches.take({ id, through: 1 }, puller("a"), at(askMs + 1500), wish);
    fetches.arrived({ id, through: 3 }, at(askMs + 1510));
  }
  expect(waits(fetches, 1_000_000)).toBe(400);
});

test("a peer that sends other things meanwhile is waited for as long as answers take, where that is longer than its patience", () => {
  const fetches = new Fetches();
  answer(fetches, Array(60).fill(2500));
  // What it sends last comes 2 s after the question.
  expect(waits(fetches, 1_000_000, puller("a", 1_002_000))).toBeGreaterThan(4400);
});
