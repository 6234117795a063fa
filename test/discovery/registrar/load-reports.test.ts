import { expect, test } from "vitest";
import { type KeyText, KIND, keyText } from "../../../src/catalog/record/record.ts";
import { LoadReports, loadBand } from "../../../src/discovery/registrar/load-reports.ts";

const IDLE = { activeClients: 0, errorRate: 0, latencyMs: 0, utilization: 0, observedWallMs: 0 };

test.each([
  { a: { utilization: 0.24 }, b: { utilization: 0 }, isSame: true },
  { a: { utilization: 0.25 }, b: { utilization: 0.24 }, isSame: false },
  { a: { utilization: 0.89 }, b: { utilization: 0.75 }, isSame: true },
  { a: { utilization: 0.9 }, b: { utilization: 0.89 }, isSame: false },
  { a: { utilization: 1 }, b: { utilization: 0.9 }, isSame: true },
  { a: { latencyMs: 0.5 }, b: { latencyMs: 0 }, isSame: true },
  { a: { latencyMs: 1 }, b: { latencyMs: 0.5 }, isSame: false },
  { a: { latencyMs: 3 }, b: { latencyMs: 2 }, isSame: true },
  { a: { latencyMs: 4 }, b: { latencyMs: 3 }, isSame: false },
  { a: { activeClients: 1 }, b: {}, isSame: false },
  { a: { activeClients: 15 }, b: { activeClients: 4 }, isSame: true },
  { a: { activeClients: 16 }, b: { activeClients: 15 }, isSame: false },
  { a: { activeClients: 4_000_000_000 }, b: { activeClients: 300_000 }, isSame: true },
  { a: { errorRate: 0.001 }, b: {}, isSame: false },
  { a: { errorRate: 0.09 }, b: { errorRate: 0.01 }, isSame: true },
  { a: { errorRate: 0.49 }, b: { errorRate: 0.09 }, isSame: false },
  { a: { errorRate: 0.5 }, b: { errorRate: 0.49 }, isSame: false },
  { a: { errorRate: 1 }, b: { errorRate: 0.5 }, isSame: true },
  { a: { latencyMs: 1e9, utilization: 1 }, b: { activeClients: 1 }, isSame: false },
])(
  "quarters of utilisation and its last tenth, powers of two of latency and of four of clients, tenths of errors: $a and $b in one band: $isSame",
  ({ a, b, isSame }) => {
    expect(loadBand({ ...IDLE, ...a }) === loadBand({ ...IDLE, ...b })).toBe(isSame);
  },
);

test("a report in the same band is sent again only if it is bad, and then every 30 s", () => {
  const sentAt = (report: Partial<typeof IDLE>) => {
    const loads = new LoadReports(5_000);
    const sent = Array.from({ length: 13 }, (_, i) => loads.note("key" as KeyText, { ...IDLE, ...report }, i * 5_000));
    return sent.flatMap((isSent, i) => (isSent ? [i * 5] : []));
  };
  expect(sentAt({ utilization: 0.5 })).toEqual([0]);
  for (const bad of [{ utilization: 0.95 }, { errorRate: 0.9 }, { latencyMs: 900 }]) expect(sentAt(bad)).toEqual([0, 30, 60]);
});

test("a key is looked up only if its namespace has reports", () => {
  const loads = new LoadReports(5_000);
  const keyIn = (namespace: string) => keyText({ kind: KIND.SERVICE, namespace, name: "web", instanceId: "i-0", clusterId: "c" });
  const [reported, other] = [keyIn("svc.market"), keyIn("svc.shop")];
  loads.note(reported, IDLE, 0);
  loads.note(reported, IDLE, 1);
  expect([loads.of(reported), loads.of(other)]).toEqual([IDLE, undefined]);
  // With the namespace of another entry it is visible that the text of the key is not read.
  expect([loads.of(reported, "svc.market"), loads.of(reported, "svc.shop")]).toEqual([IDLE, undefined]);
  loads.forget(reported);
  loads.forget(other);
  expect(loads.of(reported)).toBeUndefined();
  loads.note(other, IDLE, 2);
  expect([loads.of(reported), loads.of(other)]).toEqual([undefined, IDLE]);
});
