import fc from "fast-check";
import { expect, test } from "vitest";
import { WaymarkError } from "../../src/lib/errors.ts";
import { levelOf, parseLogLevel, parseLogScopes } from "../../src/lib/log-scopes.ts";

const scopes = parseLogScopes("dns=debug, server.grpc=trace,server=warn,");

test.each([
  { component: "dns", level: "debug" },
  { component: "dns.wire", level: "debug" },
  { component: "server.grpc", level: "trace" },
  { component: "server.grpc.calls", level: "trace" },
  { component: "server.http", level: "warn" },
  { component: "serverless", level: "info" },
  { component: "store", level: "info" },
  { component: "", level: "info" },
])("the longest scope that covers a component decides: $component → $level", ({ component, level }) => {
  expect(levelOf(component, scopes, "info")).toBe(level);
});

test.each([
  { text: "=debug", says: "is not of the form component=level" },
  { text: "DNS=debug", says: "is not of the form component=level" },
  { text: "dns=loud", says: '"loud" is not a log level; allowed: trace, debug, info, warn, error, silent' },
  { text: "dns=", says: '"" is not a log level' },
  { text: Array.from({ length: 65 }, (_, at) => `a${at}=info`).join(), says: "more than 64 scopes" },
])("scopes that cannot be read are refused with what is wrong: $says", ({ text, says }) => {
  expect(() => parseLogScopes(text)).toThrow(says);
});

test("a component alone is logged at debug", () => {
  expect([...parseLogScopes("dns,server.grpc=trace")]).toEqual([
    ["dns", "debug"],
    ["server.grpc", "trace"],
  ]);
});

test("a level is refused under the name of its setting", () => {
  expect(() => parseLogLevel("verbose")).toThrow("log-level");
});

test("any text is read or refused as bad input", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(refusalOf(text) ?? new WaymarkError("invalid_argument", "none")).toBeInstanceOf(WaymarkError);
    }),
  );
});

function refusalOf(text: string): unknown {
  try {
    parseLogScopes(text);
    return undefined;
  } catch (error) {
    return error;
  }
}
