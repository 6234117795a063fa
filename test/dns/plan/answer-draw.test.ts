import fc from "fast-check";
import { expect, test } from "vitest";
import { CLASS_IN, planAnswer } from "../../../src/dns/plan/answer.ts";
import { drawAnswer } from "../../../src/dns/plan/answer-draw.ts";
import type { DnsRecord } from "../../../src/dns/records/record.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { ask, newResponder } from "../asking.ts";

/** Of a record what tells it from the others of its set. */
function wordsOf(record: DnsRecord): string {
  if (record.type === "A") return record.data.address.join(".");
  if (record.type !== "SRV") return record.type;
  return `${record.data.priority} ${record.data.weight} ${record.data.port} ${record.data.target}.`;
}

const TARGETS = fc.array(fc.record({ priority: fc.nat(1), weight: fc.constantFrom(0, 1, 5, 100) }), { minLength: 1, maxLength: 12 });

test("the same numbers draw the same answer for DnsService as at the gateway", () => {
  fc.assert(
    fc.property(TARGETS, fc.option(fc.integer({ min: 1, max: 13 }), { nil: undefined }), fc.string(), (drawn, answerLimit, seed) => {
      const targets = drawn.map((target, i) => ({ ...target, host: `10.0.0.${i}`, port: 80, protocol: "tcp" }));
      const catalog = new FakeDnsCatalog([entryView({ name: "web", targets })], { answerLimit });
      for (const [type, code, name] of [
        ["A", 1, "web.market.waymark"],
        ["SRV", 33, "_svc._tcp.web.market.waymark"],
      ] as const) {
        const numbers = () => {
          const rng = new Rng(seed);
          return () => rng.next();
        };
        const plan = planAnswer({ name, type: code, class: CLASS_IN }, catalog, TEST_DNS_SETTINGS);
        const { answers, additional } = drawAnswer(plan, { random: numbers(), answerLimit });
        const told = ask(newResponder({ random: numbers() }), catalog, type, name);
        expect(answers.map(wordsOf)).toEqual(told.answers.map((line) => line.split(` ${type} `)[1]));
        expect(additional.map((record) => `${record.name}.`)).toEqual(told.additional.map((line) => line.split(" ")[0]));
        expect(answers).toHaveLength(Math.min(answerLimit ?? targets.length, plan.groups.flat().length));
      }
    }),
  );
});

test.each([{ answerLimit: undefined }, { answerLimit: 3 }])(
  "with a limit of $answerLimit each of ten records comes first equally often",
  ({ answerLimit }) => {
    const targets = Array.from({ length: 10 }, (_, i) => ({ host: `10.0.0.${i}`, port: 80, protocol: "tcp" }));
    const catalog = new FakeDnsCatalog([entryView({ name: "web", targets })]);
    const plan = planAnswer({ name: "web.market.waymark", type: 1, class: CLASS_IN }, catalog, TEST_DNS_SETTINGS);
    const rng = new Rng("draw");
    const firsts = new Map<string, number>();
    for (let i = 0; i < 10_000; i++) {
      const [first] = drawAnswer(plan, { random: () => rng.next(), answerLimit }).answers;
      const word = first === undefined ? "" : wordsOf(first);
      firsts.set(word, (firsts.get(word) ?? 0) + 1);
    }
    expect(firsts.size).toBe(10);
    for (const count of firsts.values()) expect(Math.abs(count - 1000)).toBeLessThan(200);
  },
);
