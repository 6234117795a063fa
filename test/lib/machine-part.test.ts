import { expect, test } from "vitest";
import { NEVER } from "../../src/lib/machine.ts";
import { type MachinePart, MachineParts } from "../../src/lib/machine-part.ts";

type In = { readonly kind: "tick" } | { readonly kind: "asked"; readonly name: string };
type Out = { readonly kind: "order"; readonly name: string };
type Word = MachinePart<In, Out>;

const AT = { monoMs: 5, wallMs: 0 };

function partsOf(...rows: readonly Word[]): MachineParts<In, Out> {
  const parts = new MachineParts<In, Out>();
  parts.add(rows);
  return parts;
}

const saying = (name: string): Word => ({
  handle: { asked: (input, { monoMs }, out) => void out.push({ kind: "order", name: `${name} ${input.name} ${monoMs}` }) },
  look: (_, out) => void out.push({ kind: "order", name: `${name} looks` }),
  begin: (_, out) => void out.push({ kind: "order", name: `${name} begins` }),
  drain: (_, out) => void out.push({ kind: "order", name: `${name} drains` }),
});

function said(work: (out: Out[]) => void): readonly string[] {
  const out: Out[] = [];
  work(out);
  return out.map(({ name }) => name);
}

test("an input reaches every part that handles its kind, in the order of the list, and then each part looks", () => {
  const parts = partsOf(saying("a"), { nextDeadlineMs: () => 7 }, saying("b"));
  expect(said((out) => parts.handle({ kind: "asked", name: "x" }, AT, out))).toEqual(["a x 5", "b x 5", "a looks", "b looks"]);
  expect(said((out) => parts.handle({ kind: "tick" }, AT, out))).toEqual(["a looks", "b looks"]);
  expect(said((out) => parts.begin(AT, out))).toEqual(["a begins", "b begins"]);
  expect(said((out) => parts.drain(AT, out))).toEqual(["a drains", "b drains"]);
});

test("what a part puts out reaches the parts that handle it, and leaves where none does", () => {
  const parts = partsOf(saying("a"));
  expect(said((out) => parts.deliver({ kind: "asked", name: "x" }, AT, out))).toEqual(["a x 5"]);
  expect(said((out) => parts.deliver({ kind: "order", name: "x" }, AT, out))).toEqual(["x"]);
});

test("the next deadline is that of the part that is due first; parts that are added later count too", () => {
  let postponedMs = 0;
  const parts = partsOf({}, { postpone: (byMs) => void (postponedMs += byMs) });
  expect(parts.nextDeadlineMs()).toBe(NEVER);
  parts.add([{ nextDeadlineMs: () => 9 }, { nextDeadlineMs: () => 7, postpone: (byMs) => void (postponedMs += byMs) }]);
  expect(parts.nextDeadlineMs()).toBe(7);
  parts.add([saying("c")]);
  expect(said((out) => parts.handle({ kind: "tick" }, AT, out))).toEqual(["c looks"]);
  expect(parts.kinds).toEqual(["asked"]);
  parts.postpone(3, AT);
  expect(postponedMs).toBe(6);
});
