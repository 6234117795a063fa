import fc from "fast-check";
import { expect, test } from "vitest";
import { isNewer, nextSerial, readZoneFile, writeZoneFile, type ZoneClass, ZoneVersions } from "../../../src/dns/views/zone-versions.ts";

const S = 1_800_000_000;
const at = (seconds: number) => ({ monoMs: (seconds - S) * 1000, wallMs: seconds * 1000 });
const EVERYBODY: ZoneClass = { key: "all", sees: () => true };
const RED: ZoneClass = { key: "red", sees: (namespace) => namespace === "red" };
const BLUE: ZoneClass = { key: "blue", sees: (namespace) => namespace === "blue" };

function versionsOf(classes: readonly ZoneClass[], kept: Readonly<Record<string, number>> = {}, seconds = S) {
  const told = new Uint32Array(classes.length);
  const versions = new ZoneVersions({ classes, kept: new Map(Object.entries(kept)), told }, seconds * 1000);
  const cut = (time: number) => {
    const serials = versions.cut(at(time));
    versions.tell();
    return serials !== undefined;
  };
  versions.tell();
  return { versions, told, cut };
}

test.each([
  { what: "a first serial is the clock's", last: undefined, clock: S, want: S },
  { what: "one from before is followed by the clock", last: S - 100, clock: S, want: S },
  { what: "the clock was set back", last: S + 100, clock: S, want: S + 101 },
  { what: "twice in a second", last: S, clock: S, want: S + 1 },
  { what: "at the wrap without a clock that is newer", last: 0xffff_ffff, clock: 0xffff_fff0, want: 0 },
  { what: "the clock wraps", last: 0xffff_ffff, clock: 0x1_0000_0005, want: 5 },
  { what: "a serial from before this rule, which counted revisions", last: 38, clock: S, want: S },
])("$what: the next serial is $want", ({ last, clock, want }) => {
  expect(nextSerial(last, clock * 1000)).toBe(want);
});

test("whatever the clock does, each serial is newer than the one before (RFC 1982)", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), fc.array(fc.nat(0x2_0000_0000)), (first, clocks) => {
      let last = first;
      for (const clock of clocks) {
        const next = nextSerial(last, clock * 1000);
        expect(isNewer(next, last)).toBe(true);
        last = next;
      }
    }),
  );
});

test("a change is in the next version of those who see it, and of nobody else", () => {
  const { versions, told, cut } = versionsOf([EVERYBODY, RED, BLUE]);
  versions.noteChange("red");
  versions.noteChange("hidden");
  expect(cut(S + 5)).toBe(true);
  expect([...told]).toEqual([S + 5, S + 5, S]);
  versions.noteChange("blue");
  expect(cut(S + 9)).toBe(true);
  expect([...told]).toEqual([S + 9, S + 5, S + 9]);
});

test("a change that a class does not see moves nothing, however many there are", () => {
  const { versions, told, cut } = versionsOf([RED]);
  for (let i = 0; i < 10_000; i++) versions.noteChange(`other.n${i}`);
  expect(cut(S + 5)).toBe(false);
  expect([...told]).toEqual([S]);
});

test("there is at most one version a second, and a change between two is in the next", () => {
  const { versions, told, cut } = versionsOf([EVERYBODY]);
  const cuts = Array.from({ length: 100 }, (_, i) => {
    versions.noteChange("red");
    return cut(S + 10 + i / 10);
  });
  expect(cuts.filter(Boolean)).toHaveLength(10);
  versions.noteChange("red");
  expect([cut(S + 25), cut(S + 27)]).toEqual([true, false]);
  expect([...told]).toEqual([S + 25]);
});

test("what was cut is told only when it is kept", () => {
  const { versions, told } = versionsOf([EVERYBODY]);
  versions.noteEverything();
  expect(versions.cut(at(S + 5))?.get("all")).toBe(S + 5);
  expect([...told]).toEqual([S]);
  versions.tell();
  expect([...told]).toEqual([S + 5]);
});

test("a restart goes on from what was kept: with a version for each class, and a new class above all others", () => {
  const { versions, told } = versionsOf([EVERYBODY, RED, BLUE], { all: S - 50, red: S + 7, gone: S + 30 });
  expect([...told]).toEqual([S, S + 8, S + 31]);
  expect(Object.fromEntries(versions.serials)).toEqual({ gone: S + 30, all: S, red: S + 8, blue: S + 31 });
});

test("restarts within one second, with the clock set back between them, never repeat a serial", () => {
  fc.assert(
    fc.property(fc.array(fc.record({ clock: fc.integer({ min: S - 3, max: S + 3 }), changes: fc.nat(3) })), (starts) => {
      let kept: Readonly<Record<string, number>> = {};
      let last = -1;
      for (const { clock, changes } of starts) {
        const { versions, told, cut } = versionsOf([EVERYBODY], kept, clock);
        for (let i = 0; i <= changes; i++) {
          if (i > 0) {
            versions.noteEverything();
            cut(clock + i);
          }
          expect(told[0]).toBeGreaterThan(last);
          last = told[0] ?? 0;
        }
        kept = Object.fromEntries(readZoneFile(writeZoneFile(versions.serials)) ?? []);
      }
    }),
  );
});

test("without the file no serial is older than the time at which it was written last", () => {
  const told = new Uint32Array(1);
  new ZoneVersions({ classes: [EVERYBODY], kept: new Map(), atLeast: S + 60, told }, S * 1000).tell();
  expect(told[0]).toBe(S + 61);
});

test("the file gives back what was written; cut at any byte, or with any byte changed, it is none", () => {
  const serials = new Map([
    ["all local", S],
    ["red \u00e9", 0xffff_ffff],
    ["", 0],
  ]);
  const bytes = writeZoneFile(serials);
  expect(readZoneFile(bytes)).toEqual(serials);
  for (let i = 0; i < bytes.length; i++) {
    expect(readZoneFile(bytes.subarray(0, i))).toBeUndefined();
    expect(readZoneFile(bytes.with(i, (bytes[i] ?? 0) ^ 1))).toBeUndefined();
  }
});

test("the file keeps the serials of the classes in use, and of others the last ones", () => {
  const kept = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`old${i}`, i]));
  const { versions } = versionsOf([EVERYBODY, RED], kept);
  const read = [...(readZoneFile(writeZoneFile(versions.serials))?.keys() ?? [])];
  expect(read).toHaveLength(256);
  expect(read.slice(-3)).toEqual(["old299", "all", "red"]);
});

test("a namespace that nobody sees is judged once a cut, as long as so many are remembered", () => {
  let judgedCount = 0;
  const { versions, cut } = versionsOf([{ key: "none", sees: () => (judgedCount++, false) }]);
  const change = (i: number) => {
    versions.noteChange(`n${i}`);
    return judgedCount;
  };
  for (let i = 0; i < 4096; i++) change(i);
  expect([change(0), change(4095), change(4096), change(0)]).toEqual([4096, 4096, 4097, 4098]);
  expect([cut(S + 1), change(0)]).toEqual([false, 4099]);
});

test("a file that has no room for all serials has those of the classes in use, however old they are", () => {
  const old = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`old${i}`, S - 1000]));
  const { versions, told } = versionsOf([EVERYBODY, RED], { all: S - 500, red: S - 400, ...old });
  const kept = readZoneFile(writeZoneFile(versions.serials));
  expect([kept?.size, kept?.get("all"), kept?.get("red")]).toEqual([256, told[0], told[1]]);
});
