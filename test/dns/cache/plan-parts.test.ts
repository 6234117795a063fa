/** Of answers that are larger than any message, what is kept and in which order: no response shows all of it. */
import { expect, test } from "vitest";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { PlanCache } from "../../../src/dns/cache/plan-cache.ts";
import { CLASS_IN, planAnswer } from "../../../src/dns/plan/answer.ts";
import type { RecordType } from "../../../src/dns/records/record.ts";
import { RECORDS } from "../../../src/dns/records/records.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { aliasNames, CountingCatalog, crowd, INSTANCES } from "../../fakes/crowded-dns.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";

function newCache(maxBytes: number): PlanCache {
  const rng = new Rng("plans");
  return new PlanCache({ settings: TEST_DNS_SETTINGS, random: () => rng.next(), planBytes: maxBytes });
}

function ask(cache: PlanCache, catalog: FakeDnsCatalog, name: string, type: RecordType = "A") {
  const { plan } = cache.plan({ name: `${name}.waymark`, type: RECORDS[type].code, class: 1 }, catalog);
  if (plan === undefined) throw new Error("it was prepared");
  return plan;
}

test("aliases of a name share its records, also those of the name itself", () => {
  const cache = newCache(32 * 1024 * 1024);
  const catalog = new CountingCatalog(crowd());
  const [cname, first] = ask(cache, catalog, "x0.al").groups;
  expect(cname).toEqual([{ type: "CNAME", name: "x0.al.waymark", ttlSeconds: 30, data: { target: "web.market.waymark" } }]);
  expect(first).toHaveLength(INSTANCES);
  for (const name of aliasNames) expect(ask(cache, catalog, name).groups[1]).toBe(first);
  expect(ask(cache, catalog, "web.market").groups[0]).toBe(first);
  // A type that is not there is shared too, and says so for the name that was asked.
  expect(ask(cache, catalog, "x1.al", "AAAA")).toMatchObject({ rcode: 0, groups: [[{ type: "CNAME", name: "x1.al.waymark" }]] });
  expect(ask(cache, catalog, "x1.al", "AAAA").authority).toHaveLength(1);
});

test("a part keeps the order of groups, each whole before the next begins, and the glue of what stays", () => {
  const each = 1000;
  const healths = [HEALTH.HEALTHY, HEALTH.DEGRADED, HEALTH.CRITICAL];
  const hostOf = (i: number) => `2001:db8:1234:1234:1234:1234:1234:${(0x1000 + i).toString(16)}`;
  const entries = healths.flatMap((health, group) =>
    Array.from({ length: each }, (_, k) => {
      const i = group * each + k;
      return entryView({
        name: "web",
        instanceId: `i${i}`,
        nodeId: `n${i}`,
        health,
        targets: [{ host: hostOf(i), port: 80, protocol: "tcp" }],
      });
    }),
  );
  const plan = ask(newCache(20 * 1024 * 1024), new CountingCatalog(entries), "_svc._tcp.web.market", "SRV");
  const numbers = plan.groups.map((group) =>
    group.map((record) =>
      record.type === "SRV" ? Number.parseInt(record.data.target.split(".")[0]?.split("-").at(-1) ?? "", 16) - 0x1000 : -1,
    ),
  );
  const [first = [], second = [], third = []] = numbers;
  expect(new Set(first)).toEqual(new Set(Array.from({ length: each }, (_, i) => i)));
  expect(new Set(second)).toEqual(new Set(Array.from({ length: each }, (_, i) => each + i)));
  expect([third.length > 0, third.length < each]).toEqual([true, true]);
  expect(third.every((i) => i >= 2 * each)).toBe(true);
  expect(third).not.toEqual(Array.from({ length: third.length }, (_, i) => 2 * each + i));
  expect(plan.glue.size).toBe(numbers.flat().length);
  expect(plan.isCut).toBe(true);
});

test("of more targets than fit into any answer each entry has its part", () => {
  const targets = (instance: number) => Array.from({ length: 64 }, (_, i) => ({ host: `h${instance}-${i}.example`, port: 1 }));
  const entries = Array.from({ length: 1_000 }, (_, i) => entryView({ name: "big", instanceId: `i${i}`, targets: targets(i) }));
  const question = { name: "_svc._tcp.big.market.waymark", type: 33, class: CLASS_IN };
  const answers = planAnswer(question, new FakeDnsCatalog(entries), TEST_DNS_SETTINGS).groups.flat();
  const aliasOwners = new Set(answers.map((record) => (record.type === "SRV" ? record.data.target.split("-")[0] : "")));
  expect(answers.length).toBe(4_000);
  expect(aliasOwners.size).toBe(1_000);
});
