import { expect, test } from "vitest";
import { failure, type Plan, RCODE } from "../../src/dns/answer.ts";
import { planBytes, thinned } from "../../src/dns/plan-size.ts";
import type { DnsRecord } from "../../src/dns/records.ts";
import { Rng } from "../../src/lib/rng.ts";

const name = "web.market.waymark";
const srv = (i: number): DnsRecord => ({
  type: "SRV",
  name,
  ttlSeconds: 30,
  data: { priority: 0, weight: 1, port: 1, target: `h${i}.${"x".repeat(60)}.waymark` },
});
const text = (chars: number): DnsRecord => ({ type: "TXT", name, ttlSeconds: 30, data: { strings: ["x".repeat(chars)] } });
const planOf = (...groups: DnsRecord[][]): Plan => ({ ...failure(RCODE.NOERROR), groups });

test("a plan counts its records, their texts and those of its glue", () => {
  const empty = planBytes(planOf());
  expect(empty).toBeGreaterThan(500);
  expect(planBytes(planOf([text(200)])) - planBytes(planOf([text(50)]))).toBe(150);
  const glue = new Map([["a.waymark", [text(10), text(10)]]]);
  expect(planBytes({ ...planOf(), glue }) - empty).toBeGreaterThan(2 * (planBytes(planOf([text(10)])) - empty));
});

test("what is thinned keeps the order of groups, each whole before the next begins, and the glue of what stays", () => {
  const [first, second, third] = [0, 1, 2].map((group) => Array.from({ length: 1200 }, (_, i) => srv(group * 1200 + i)));
  const plan = planOf(first ?? [], second ?? [], third ?? []);
  const glue = new Map(plan.groups.flat().map((record) => [record.type === "SRV" ? record.data.target : "", [text(1)]]));
  const rng = new Rng("thin");
  const part = thinned({ ...plan, glue }, () => rng.next(), 4 << 20);
  expect(new Set(part.groups[0])).toEqual(new Set(first));
  expect(part.groups).toHaveLength(2);
  expect(part.groups[1]?.every((record) => second?.includes(record))).toBe(true);
  expect(part.groups[1]).not.toEqual(second?.slice(0, part.groups[1]?.length));
  expect(part.glue.size).toBe(part.groups.flat().length);
});
