/** What replication costs with 200 nodes, 20 links each, 10 % loss and a change a second each: the goals at their size. Figures are printed. */
import { expect, test } from "vitest";
import { trafficUnderLoad } from "../sim/traffic.ts";

const MINUTES = 60_000;

test.each([
  { what: "all live", crashShare: 0, seconds: 20 },
  { what: "5 % die meanwhile", crashShare: 0.05, seconds: 30 },
])(
  "200 nodes, $what: records arrive at most 1.5 times, talk costs less than they do, an idle origin 20 B/s, P7 holds",
  {
    timeout: 60 * MINUTES,
  },
  ({ crashShare, seconds }) => {
    const traffic = trafficUnderLoad({ nodes: 200, loss: 0.1, seconds, crashShare, seed: 7, say: (words) => console.error(words) });
    console.error("traffic:", traffic);
    expect(traffic.copies).toBeLessThanOrEqual(1.5);
    expect(traffic.wholeTransfers).toBe(0);
    expect(traffic.talkBytes).toBeLessThanOrEqual(traffic.recordBytes);
    expect(traffic.idleWirePerOriginNodeSecond).toBeLessThanOrEqual(20);
    expect(traffic.p95Ms).toBeLessThanOrEqual(1000);
    expect(traffic.maxMs).toBeLessThanOrEqual(2000);
    expect(traffic.isEqual).toBe(true);
  },
);
