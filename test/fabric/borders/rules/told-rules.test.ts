import { expect, test } from "vitest";
import { BORDER_FIXED } from "../../../../src/fabric/borders/options.ts";
import { ToldRules } from "../../../../src/fabric/borders/rules/told-rules.ts";
import type { HeardRule, Reach } from "../../../../src/fabric/wire/messages.ts";

const reachOf = (region: string, ...patterns: readonly string[]): Reach => ({ hops: 1, regions: [region], patterns });
const ruleOf = (region: string, exports: readonly string[], reached?: readonly Reach[]): HeardRule => ({
  clusterId: `${region}1`,
  region,
  isHeard: true,
  hasLink: true,
  exports,
  ...(reached !== undefined && { reached }),
});

test("a rule that flaps is told three times and then once each 20 s, and puts off neither a reach nor another neighbour", () => {
  const told = new ToldRules(BORDER_FIXED);
  const flapping = (n: number) => ruleOf("eu", [n % 2 === 0 ? "svc" : "inner"], [reachOf("sa", `n${n}`)]);
  let count = 0;
  for (let n = 0; n < 10; n++) if (told.follow([flapping(n), ruleOf("ap", ["svc"])], [], n)) count += 1;
  expect([count, told.rows[0]]).toEqual([10, { ...flapping(2), reached: [reachOf("sa", "n9")] }]);
  told.follow([flapping(9), ruleOf("ap", ["inner"])], [], 10);
  expect(told.rows).toEqual([{ ...flapping(2), reached: [reachOf("sa", "n9")] }, ruleOf("ap", ["inner"])]);
  told.follow([flapping(9), ruleOf("ap", ["inner"])], [], 20_000);
  expect(told.rows[0]).toEqual(flapping(9));
  expect(told.follow([flapping(9), ruleOf("ap", ["inner"])], [], 40_000)).toBe(false);
});

test("of a reach the cluster is not told what it hears nearer, by this node or by another one", () => {
  const told = new ToldRules(BORDER_FIXED);
  const far = ruleOf("ap", ["*"], [reachOf("eu", "svc"), reachOf("sa", "svc")]);
  told.follow([far], [ruleOf("eu", ["svc"])], 0);
  expect(told.rows).toEqual([{ ...far, reached: [reachOf("sa", "svc")] }]);
  told.follow([far, ruleOf("sa", ["*"])], [ruleOf("eu", ["svc"])], 1);
  expect(told.rows.map(({ reached }) => reached)).toEqual([undefined, undefined]);
});
