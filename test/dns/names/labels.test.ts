import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeLabel, encodeLabel, mayEndLonger, wordsOf } from "../../../src/dns/names/labels.ts";
import { runs } from "../../fakes/effort.ts";

const NAME = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,128}$/);

test.each([
  { text: "web", label: "web" },
  { text: "web-2", label: "web-2" },
  { text: "Node:7", label: "b32-jzxwizj2g4" },
  { text: "Web", label: "b32-k5swe" },
  { text: "v1.web", label: "b32-oyys453fmi" },
  { text: "b32-web", label: "b32-miztellxmvra" },
  { text: "a".repeat(63), label: "a".repeat(63) },
  // A label holds 63 octets: what needs more is cut into several.
  { text: "a".repeat(64), label: `b32x-${"mfqwcylb".repeat(7)}mf.b32-${"qwcylbmf".repeat(5)}qwcyi` },
  { text: "A".repeat(36), label: "b32-ifaucqkbifaucqkbifaucqkbifaucqkbifaucqkbifaucqkbifaucqkbie" },
  { text: "A".repeat(37), label: `b32x-${"ifaucqkb".repeat(7)}if.b32-aq` },
  { text: "b32x-web", label: "b32-mizte6bno5swe" },
  { text: "a".repeat(254), label: undefined },
  { text: "", label: undefined },
  { text: "ä", label: undefined },
  { text: "a b", label: undefined },
])("the label of $text is $label", ({ text, label }) => {
  expect(encodeLabel(text)).toBe(label);
});

test.each([
  { label: "WEB", text: "web" },
  { label: "B32-JZXWIZJ2G4", text: "Node:7" },
  { label: "b32-", text: undefined },
  { label: "b32-o5swe", text: undefined }, // "web", which needs no base32
  { label: "b32-jzxwizj2g5", text: undefined }, // stray bits at the end
  { label: "b32-jzxwizj2g4a", text: undefined },
  { label: "b32-jzxwizj2g4======", text: undefined },
  { label: "b32-018", text: undefined },
  // One text, cut elsewhere, not closed, or in several labels though one would do.
  { label: `b32x-${"ifaucqkb".repeat(7)}if.b32-aq`, text: "A".repeat(37) },
  { label: `b32x-${"ifaucqkb".repeat(7)}i.b32-faq`, text: undefined },
  { label: `b32x-${"ifaucqkb".repeat(7)}if.b32x-aq`, text: undefined },
  { label: `b32x-${"ifaucqkb".repeat(7)}if`, text: undefined },
  { label: `b32-${"ifaucqkb".repeat(7)}if.b32-aq`, text: undefined },
  { label: "b32x-k5.b32-swe", text: undefined },
  { label: "b32x-.b32-", text: undefined },
  { label: "b32x-b32-", text: undefined },
  { label: "web.market", text: undefined },
  { label: "_svc", text: undefined },
  { label: "a\\046b", text: undefined },
  { label: "", text: undefined },
])("the label $label stands for $text", ({ label, text }) => {
  expect(decodeLabel(label)).toBe(text);
});

test("the longest text of a name is a label for each 58 digits", () => {
  expect(encodeLabel("a".repeat(253))).toMatch(/^(?:b32x-[a-z2-7]{58}\.){6}b32-[a-z2-7]{57}$/);
});

test("a name that has a label comes back from it, in any case of the label", () => {
  fc.assert(
    fc.property(NAME, (text) => {
      const label = encodeLabel(text);
      const port = encodeLabel(text, "port");
      for (const [place, written] of [
        ["name", label],
        ["port", port],
      ] as const) {
        if (written === undefined) throw new Error("each name is written");
        const longest = place === "name" ? 63 : 62;
        expect(written.split(".").map((part, i) => part.length <= (i === 0 ? longest : 63))).not.toContain(false);
        expect(decodeLabel(written, place)).toBe(text);
        expect(decodeLabel(written.toUpperCase(), place)).toBe(text);
        expect(wordsOf(`${written}.market`)).toEqual([written, "market"]);
      }
    }),
  );
});

test("a label that was not made by encoding is refused", () => {
  const label = fc.oneof(
    fc.string({ maxLength: 70 }),
    fc.stringMatching(/^b32-[a-z0-9]{0,60}$/),
    fc.stringMatching(/^(b32x-[a-z2-7]{57,58}\.){1,3}b32x?-[a-z2-7]{0,59}$/),
    fc.tuple(NAME, fc.nat(200), fc.constantFrom(".", "a", "b32-", "x", "")).map(([text, at, put]) => {
      const whole = encodeLabel(text) ?? "";
      return whole.slice(0, at) + put + whole.slice(at + 1);
    }),
    fc.stringMatching(/^[a-zA-Z0-9_-]{1,63}$/),
  );
  fc.assert(
    fc.property(label, (candidate) => {
      const text = decodeLabel(candidate);
      if (text !== undefined) expect(encodeLabel(text)).toBe(candidate.toLowerCase());
      const port = decodeLabel(candidate, "port");
      if (port !== undefined) expect(encodeLabel(port, "port")).toBe(candidate.toLowerCase());
    }),
    { numRuns: runs(2_000) },
  );
});

test.each([
  { name: "web.market", words: ["web", "market"] },
  { name: "b32-k5swe.market", words: ["b32-k5swe", "market"] },
  { name: "b32x-a.b32x-b.b32-c.market", words: ["b32x-a.b32x-b.b32-c", "market"] },
  { name: "b32x-a.b32-b.b32x-c.b32-d", words: ["b32x-a.b32-b", "b32x-c.b32-d"] },
  { name: "_b32x-a.b32-b._tcp.web.market", words: ["_b32x-a.b32-b", "_tcp", "web", "market"] },
  { name: "b32x-a._b32-b", words: ["b32x-a", "_b32-b"] },
  { name: "b32x-a.market.b32-b", words: ["b32x-a", "market", "b32-b"] },
  { name: "web.b32x-a.b32x-b", words: ["web", "b32x-a.b32x-b"] },
  { name: "xb32x-a.b32-b", words: ["xb32x-a", "b32-b"] },
])("the words of $name", ({ name, words }) => {
  expect(wordsOf(name)).toEqual(words);
});

test("every end of a long name may be one, and hardly any other text", () => {
  const long = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{64,128}$/);
  fc.assert(
    fc.property(long, fc.constantFrom("name" as const, "port" as const), (text, place) => {
      const labels = (encodeLabel(text, place) ?? "").split(".");
      for (let at = 1; at < labels.length; at++) expect(mayEndLonger(labels.slice(at).join("."), place)).toBe(true);
    }),
  );
  // A name of its own looks like the end of another only where the bits of its characters happen to be those of others.
  const others = ["web", "b32-", "b32-a", "b32-jzxwizj2g4", "b32-k5swe", "b32x-a.b32-b", `b32x-${"ifaucqkb".repeat(7)}if`];
  expect(others.filter((word) => mayEndLonger(word, "name"))).toEqual([]);
});
