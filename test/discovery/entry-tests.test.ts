/** The filter of a query that looks into the entry. */
import { expect, test } from "vitest";
import { ANY } from "../../src/catalog/query/filter.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import { subjectTest } from "../../src/discovery/candidates.ts";
import { VersionRange } from "../../src/lib/versions.ts";
import { at, Registry, stamped } from "../fakes/registry.ts";

function held() {
  const registry = new Registry();
  const key = { namespace: "svc", name: "orders", instanceId: "1", kind: KIND.TOPIC };
  const topic = stamped("orders", { key, detail: { case: "topic", value: { patterns: ["orders.*", "refunds.#"] } } });
  registry.register("ann", [topic], at(0), { isStatic: true });
  const [orders] = registry.replica.lookup.all.block(0);
  if (orders === undefined) throw new Error("orders is not held");
  return { replica: registry.replica, orders };
}

test("a subject is asked of topics, and the reason says what was there", () => {
  const { replica, orders } = held();
  const fault = (subject: string) => subjectTest(subject, { ...ANY, kindMask: 1 << KIND.TOPIC }, replica)(orders).fault;
  expect([fault("orders.eu"), fault("refunds")]).toEqual([undefined, undefined]);
  expect(fault("other")).toEqual({ reason: "subject", detail: "none of its 2 patterns matches other" });
});

test.each([
  { subject: "a.*", asked: {}, says: "subject" },
  { subject: "a", asked: { kindMask: 1 << KIND.SERVICE }, says: "only topics have subjects" },
  {
    subject: "a",
    asked: { versions: new VersionRange("^1"), kindMask: 1 << KIND.FUNCTION },
    says: "cannot be combined with version_range",
  },
])("$subject beside $asked is refused: $says", ({ subject, asked, says }) => {
  expect(() => subjectTest(subject, { ...ANY, ...asked }, held().replica)).toThrow(says);
});
