/** Selectors of labels, in the syntax of Kubernetes. */
import { expect, test } from "vitest";
import { parseLabelSelector } from "../../../src/lib/formats/label-selector.ts";

const LABELS: Readonly<Record<string, string>> = { rack: "7", tier: "a", "example.org/zone": "", in: "x" };
const label = (key: string) => (Object.hasOwn(LABELS, key) ? LABELS[key] : undefined);

test.each([
  { selector: "", matches: true },
  { selector: "rack=7", matches: true },
  { selector: " rack == 7 ", matches: true },
  { selector: "rack=8", matches: false },
  { selector: "rack!=7", matches: false },
  { selector: "rack!=8", matches: true },
  { selector: "old!=1", matches: true },
  { selector: "old=", matches: false },
  { selector: "example.org/zone=", matches: true },
  { selector: "example.org/zone", matches: true },
  { selector: "old", matches: false },
  { selector: "!old", matches: true },
  { selector: "! rack", matches: false },
  { selector: "tier in (a,b)", matches: true },
  { selector: "tier in ( b , c )", matches: false },
  { selector: "tier notin(b)", matches: true },
  { selector: "tier notin (a)", matches: false },
  { selector: "old notin (a)", matches: true },
  { selector: "in in (x)", matches: true },
  { selector: "rack=7,env!=dev,tier in (a,b),!old", matches: true },
  { selector: "rack=7,tier=b", matches: false },
  { selector: "constructor", matches: false },
])("the selector $selector matches: $matches", ({ selector, matches }) => {
  expect(parseLabelSelector(selector, "label_selector")(label)).toBe(matches);
});

test.each([
  { selector: "a,", from: "" },
  { selector: ",a", from: ",a" },
  { selector: "rack=7,!", from: "!" },
  { selector: "a=b=c", from: "a=b=c" },
  { selector: "a=b c", from: "a=b c" },
  { selector: "a in b", from: "a in b" },
  { selector: "a in (b", from: "a in (b" },
  { selector: "a in (b c)", from: "a in (b c)" },
  { selector: "a>1", from: "a>1" },
  { selector: "é=1", from: "é=1" },
  { selector: `a in (${" ,".repeat(500)}%`, from: `a in (${" ,".repeat(29)}` },
])("the selector $selector is refused where it is wrong", ({ selector, from }) => {
  expect(() => parseLabelSelector(selector, "label_selector")).toThrow(
    `label_selector: must be requirements such as rack=7,env!=dev,tier in (a,b),!old; got ${JSON.stringify(from)}`,
  );
});
