import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "vitest";
import { type LogOptions, openLog, type RootLog, textLine } from "../../src/lib/log.io.ts";
import { parseLogScopes } from "../../src/lib/log-scopes.ts";

function opened(options: Partial<LogOptions> = {}): { readonly log: RootLog; readonly lines: string[] } {
  const lines: string[] = [];
  const log = openLog({ level: "info", scopes: new Map(), format: "json", write: (line) => void lines.push(line), ...options });
  return { log, lines };
}

function parsed(lines: readonly string[]): readonly unknown[] {
  return lines.map((line): unknown => JSON.parse(line));
}

test("a line is one JSON document with level, time, component, fields and message", () => {
  const { log, lines } = opened();
  log.child("server").child("grpc").info({ port: 17420 }, "listening");
  expect(lines[0]?.endsWith("\n")).toBe(true);
  const [line] = parsed(lines);
  expect(line).toMatchObject({ level: "info", component: "server.grpc", port: 17420, msg: "listening" });
  expect(line).toHaveProperty("time", expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/));
  expect(line).not.toHaveProperty("pid");
  expect(line).not.toHaveProperty("hostname");
});

test("facts of the log are in every line", () => {
  const { log, lines } = opened({ fields: { worker: 2 } });
  log.child("dns").info({ port: 53 }, "listening");
  expect(parsed(lines)).toMatchObject([{ worker: 2, component: "dns", port: 53, msg: "listening" }]);
});

test("scopes raise and lower single components", () => {
  const { log, lines } = opened({ scopes: parseLogScopes("dns=debug,server=error") });
  log.child("dns").debug({}, "asked");
  log.child("store").debug({}, "hidden");
  log.child("server").child("grpc").warn({}, "hidden too");
  log.child("server").error({}, "shown");
  expect(lines).toHaveLength(2);
  expect(parsed(lines)).toMatchObject([{ msg: "asked" }, { msg: "shown" }]);
  expect(log.child("dns").isEnabled("debug")).toBe(true);
  expect(log.child("store").isEnabled("debug")).toBe(false);
});

test("an error is written with its message and stack", () => {
  const { log, lines } = opened();
  log.error({ err: new TypeError("no such thing") }, "request failed");
  expect(parsed(lines)[0]).toMatchObject({ err: { type: "TypeError", message: "no such thing" } });
  expect(lines[0]).toContain("log.io.test");
});

test.each([
  { what: "a long field", fields: { text: "x".repeat(100_000) }, maxBytes: 2_500 },
  {
    what: "many long fields",
    fields: Object.fromEntries(Array.from({ length: 60 }, (_, at) => [`f${at}`, "é".repeat(2_000)])),
    maxBytes: 16_384,
  },
  { what: "a deep long field", fields: { deep: { text: "x".repeat(100_000) } }, maxBytes: 16_384 },
])("$what makes no line above its bound", ({ fields, maxBytes }) => {
  const { log, lines } = opened();
  log.child("server").info(fields, "big");
  expect(Buffer.byteLength(lines.join(""))).toBeLessThanOrEqual(maxBytes);
  expect(parsed(lines)[0]).toMatchObject({ component: "server", msg: "big" });
});

test("fields that refer to themselves are written", () => {
  const { log, lines } = opened();
  const loop: Record<string, unknown> = {};
  loop["self"] = loop;
  log.info({ loop }, "odd");
  expect(parsed(lines)[0]).toMatchObject({ msg: "odd" });
});

test("for a person a line is time, level, component, message and facts", () => {
  const { log, lines } = opened({ format: "text" });
  log.child("dns").warn({ queryCount: 3, name: "a b", id: "svc.market" }, "slow");
  expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} WARN {2}dns: slow queryCount=3 name="a b" id=svc\.market\n$/);
});

test("control characters of strangers do not reach the terminal", () => {
  const { log, lines } = opened({ format: "text" });
  log.info({ id: "\u001b[2Jgone\nforged line" }, "got\u001b[31m id");
  expect(lines.join("")).not.toContain("\u001b");
  expect(lines.join("").match(/\n/g)).toHaveLength(1);
});

test("colour is only added when asked for", () => {
  const line = JSON.stringify({ level: "error", time: "2026-01-01T10:11:12.123Z", msg: "broken" });
  expect(textLine(line, false)).toBe("10:11:12.123 ERROR broken\n");
  expect(textLine(line, true)).toBe("10:11:12.123 \u001b[31mERROR\u001b[0m broken\n");
});

const CHILD = `
import { openLog } from ${JSON.stringify(new URL("../../src/lib/log.io.ts", import.meta.url).href)};
const log = openLog({ level: "info", scopes: new Map(), format: "json" });
process.stdin.once("data", async () => {
  for (let i = 0; i < Number(process.argv[1]); i++) log.info({ i, text: "x".repeat(1000) }, "a line");
  await log.end();
  log.info({}, "after the end");
  process.exit(0);
});
process.stdout.write("begun");
`;

test.each([
  { reader: "reads", lines: 3, wants: 3 },
  { reader: "is gone", lines: 3, wants: 0 },
  { reader: "does not read", lines: 500, wants: 0 },
])("the end of the log comes also where who reads stderr $reader", async ({ reader, lines, wants }) => {
  const child = spawn(process.execPath, ["--input-type=module", "-e", CHILD, String(lines)], { stdio: ["pipe", "pipe", "pipe"] });
  try {
    await once(child.stdout, "data");
    let text = "";
    const isRead = reader === "reads" ? once(child.stderr, "end") : undefined;
    if (isRead !== undefined) child.stderr.on("data", (bytes: Buffer) => (text += bytes.toString()));
    if (reader === "is gone") {
      child.stderr.destroy();
      await once(child.stderr, "close");
    }
    child.stdin.write("go");
    const [code] = (await once(child, "exit")) as [number | null];
    await isRead;
    expect([code, text.split("\n").length - 1]).toEqual([0, wants]);
  } finally {
    child.kill("SIGKILL");
  }
});
