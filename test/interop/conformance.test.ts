/**
 * The public conformance suite of Connect (connectrpc.com/conformance) against the gRPC of src/grpc, as server and as client: each against
 * the suite's own reference implementation and against grpc-go, plain and with TLS, with identity and gzip. No exception is allowed. And against
 * the HTTP edge, for calls with one request and one answer in the Connect protocol.
 *
 * @module-tag path
 */
import { expect, test } from "vitest";
import { run } from "../../scripts/run.ts";
import { isNight, sized } from "../fakes/effort.ts";
import { isConformanceThere } from "./needs.ts";

const isThere = await isConformanceThere();
const NEEDS = "needs connectconformance of test/interop/go-tools.txt on the PATH";

/**
 * A message as long as the limit is 200 KB of single numbers, which the suite compares for most of its time. In the gate, its own client sends it
 * without TLS, to each kind of call and with each compression. Longer messages are refused in all ways.
 */
const AS_LONG_AS_THE_LIMIT = ["all-requests-equal-to-server-limit", "request-equal-to-server-limit"];
const skipped = (ways: readonly string[], ends: readonly string[]): readonly string[] =>
  isNight ? [] : ways.flatMap((way) => ends.flatMap((end) => ["--skip", `Server Message Size/**/${way}/**/${end}`]));
const SKIPPED = { server: skipped(["TLS:true", "(grpc client impl)"], AS_LONG_AS_THE_LIMIT), client: [] } as const;

/** Cases that the suite has for what the YAML files say we support: fewer would mean that something was not asked. */
const CASES = { server: sized(566, 546), client: 634 } as const;

/** The failed cases, and the end of what the suite says. */
function verdict(output: string): string {
  const failed = output.split("\n").filter((line) => line.startsWith("FAILED:"));
  return [...failed.slice(0, 20), output.slice(-4_000)].join("\n");
}

test.skipIf(!isThere).each(["server", "client"] as const)(`every case of the suite passes for the %s (${NEEDS})`, async (mode) => {
  const child = [process.execPath, `test/conformance/${mode}-child.ts`];
  const args = ["--conf", `test/conformance/${mode}.yaml`, "--mode", mode, ...SKIPPED[mode], "--", ...child];
  const { code, output } = await run("connectconformance", args);
  expect(verdict(output)).toContain(`Total cases: ${CASES[mode]}\n${CASES[mode]} passed, 0 failed`);
  expect(code).toBe(0);
});

/**
 * Cases for the edge, of which these do not pass: the suite wants a bare HTTP status for a wrong path, method or media type, and derives the code
 * from that. Ours says in JSON what would be right, with a code of its own.
 */
const EDGE_CASES = sized(688, 684);
const OWN_WORDS = [
  "Connect Unexpected Requests/**/unexpected-codec",
  "Connect Unexpected Requests/**/unexpected-uri",
  "Connect Unexpected Requests/**/unexpected-verb",
  "Unexpected Requests/**/unexpected-content-type",
];
const OWN_WORDS_CASES = 16;

test.skipIf(!isThere)(`every case of the suite passes for the HTTP edge, with and without Connect's machinery (${NEEDS})`, async () => {
  const known = OWN_WORDS.flatMap((pattern) => ["--known-failing", pattern]);
  const child = [process.execPath, "test/conformance/edge-child.ts"];
  const { code, output } = await run("connectconformance", [
    "--conf",
    "test/conformance/edge.yaml",
    "--mode",
    "server",
    ...known,
    ...skipped(["TLS:true"], ["request-equal-to-server-limit"]),
    "--",
    ...child,
  ]);
  const answered = (way: string) => output.split("\n").filter((line) => line === `answered ${way} Connect`).length;
  expect(verdict(output)).toContain(`Total cases: ${EDGE_CASES}\n${EDGE_CASES - OWN_WORDS_CASES} passed, 0 failed`);
  expect(answered("without")).toBeGreaterThan(EDGE_CASES / 5);
  expect(answered("through")).toBeGreaterThan(EDGE_CASES / 5);
  expect(code).toBe(0);
});
