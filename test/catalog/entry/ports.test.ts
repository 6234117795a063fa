/** The words under which an entry's targets are found. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { NO_PORTS, PLAIN_PORTS, portWord, portWords, transportOf } from "../../../src/catalog/entry/view.ts";
import { findSubject } from "../../../src/dns/subject/subject.ts";
import { entryView, FakeDnsCatalog } from "../../fakes/dns-catalog.ts";
import { runs } from "../../fakes/effort.ts";

const TRANSPORTS = ["tcp", "udp", "sctp"] as const;

test("entries with plain targets have the word of TCP; entries without targets have it too, and a second word", () => {
  for (const targets of [[{ name: "", port: 1, protocol: "" }], [{ name: "", port: 1, protocol: "HTTP" }]])
    expect(portWords(targets)).toBe(PLAIN_PORTS);
  expect(portWords([])).toBe(NO_PORTS);
  expect(NO_PORTS).toEqual([portWord("tcp"), " none"]);
});

test.each([
  { protocol: "udp", transport: "udp" },
  { protocol: "UDP", transport: "udp" },
  { protocol: "Sctp", transport: "sctp" },
  { protocol: "SCTP", transport: "sctp" },
  { protocol: "", transport: "tcp" },
  { protocol: "tcp", transport: "tcp" },
  { protocol: "grpc", transport: "tcp" },
  { protocol: "udp4", transport: "tcp" },
  { protocol: "smtp", transport: "tcp" },
])("$protocol is carried by $transport", ({ protocol, transport }) => {
  expect(transportOf({ protocol })).toBe(transport);
});

test("an entry has the word of a port just where a question for that port shows one of its targets", () => {
  const target = fc.record({
    host: fc.constantFrom("10.0.0.1", "10.0.0.2"),
    port: fc.constantFrom(0, 80, 81),
    name: fc.constantFrom("", "a", "b"),
    protocol: fc.constantFrom("", "tcp", "UDP", "sctp", "http"),
  });
  fc.assert(
    fc.property(fc.array(target, { maxLength: 4 }), (drawn) => {
      // Names are unique in an entry.
      const targets = drawn.filter(({ name }, i) => name === "" || drawn.findIndex((each) => each.name === name) === i);
      const words = portWords(targets);
      expect(new Set(words).size).toBe(words.length);
      // Under one word all entries are found, so that only the targets shown decide.
      const entry = entryView({ name: "web", targets });
      const all = new FakeDnsCatalog([entry]);
      all.find = () => [entry];
      for (const transport of TRANSPORTS) {
        for (const port of [undefined, "a", "b"]) {
          const subject = findSubject(`_${port ?? "svc"}._${transport}.web.market`, "waymark", all);
          const shown = subject.kind === "entries" && subject.targets.length > 0;
          const isPlain = targets.length === 0 && transport === "tcp" && port === undefined;
          expect(words.includes(portWord(transport, port))).toBe(shown || isPlain);
        }
      }
    }),
    { numRuns: runs(300) },
  );
});
