/** The flag `--check` of `waymark register`. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const fake = new FakeDiscovery();
beforeAll(() => fake.start());
afterAll(() => fake.stop());

const registering = (check: string) => {
  const names = ["--namespace", "svc.market", "--name", "web", "--instance", "web-1"];
  return waymark(["register", ...names, "--check", check, "--server", fake.address]);
};
const seconds = (count: number) => ({ seconds: BigInt(count) });

test.each([
  { text: "tcp", want: { target: "", failing: 0, passing: 0, probe: { case: "tcp", value: {} } } },
  { text: "ttl,interval=30s,failing=2", want: { interval: seconds(30), failing: 2, probe: { case: "ttl", value: {} } } },
  { text: "grpc", want: { probe: { case: "grpc", value: { service: "", tls: false } } } },
  {
    text: "grpc:market.v1.Web,tls,target=grpc,timeout=2s",
    want: { target: "grpc", timeout: seconds(2), probe: { case: "grpc", value: { service: "market.v1.Web", tls: true } } },
  },
  { text: "http", want: { probe: { case: "http", value: { path: "", tls: false } } } },
  {
    text: "http:/healthz?full=1:2,interval=1h,timeout=1m,failing=10,passing=1,status=200-399",
    want: {
      interval: seconds(3600),
      timeout: seconds(60),
      failing: 10,
      passing: 1,
      probe: { case: "http", value: { path: "/healthz?full=1:2", statusMin: 200, statusMax: 399 } },
    },
  },
  { text: "http:/,status=204", want: { probe: { value: { path: "/", statusMin: 204, statusMax: 204 } } } },
  {
    text: "alias:svc.market/db/db-1",
    want: { probe: { case: "alias", value: { key: { kind: 1, namespace: "svc.market", name: "db", instanceId: "db-1" } } } },
  },
  { text: "alias:a/b/c,kind=queue", want: { probe: { value: { key: { kind: 4 } } } } },
])("$text is a check", async ({ text, want }) => {
  expect((await registering(text)).exit).toBe(0);
  expect(fake.callsOf("register").at(-1)?.request).toMatchObject({ entries: [{ checks: [want] }] });
});

const FORMS = "expected grpc[:SERVICE], http[:/PATH], tcp, ";

test.each([
  { text: "script:/bin/true", rule: FORMS },
  { text: "constructor", rule: FORMS },
  { text: "/healthz", rule: FORMS },
  { text: "http:", rule: "missing value after the colon; write http[:/PATH]" },
  { text: "http:healthz", rule: "the path healthz must start with / and contain only printable ASCII characters without spaces" },
  { text: "http:/a b", rule: "the path /a b must start with / and contain only printable ASCII characters without spaces" },
  { text: "tcp:80", rule: "tcp must not be followed by a colon and a value" },
  { text: "ttl:30s", rule: "ttl must not be followed by a colon and a value" },
  { text: "alias", rule: "expected alias:NAMESPACE/NAME/INSTANCE; for names with a slash, use a file and waymark apply" },
  { text: "alias:a/b/c/d", rule: "expected alias:NAMESPACE/NAME/INSTANCE; for names with a slash, use a file and waymark apply" },
  { text: "alias:a/b/c,kind=thing", rule: "kind=thing is not one of service, " },
  { text: "tcp,", rule: " is not one of target=…, interval=…, timeout=…, failing=…, passing=…" },
  { text: "tcp,tls", rule: "tls is not one of target=…" },
  { text: "http,tls=yes", rule: "tls=yes is not one of target=…, interval=…, timeout=…, failing=…, passing=…, status=…, tls" },
  { text: "http,interval", rule: "interval is not one of target=…" },
  { text: "http,interval=", rule: "interval= is not one of target=…" },
  { text: "ttl,timeout=2s", rule: "timeout=2s is not one of interval=…, failing=…, passing=…" },
  { text: "ttl,target=http", rule: "target=http is not one of interval=…, failing=…, passing=…" },
  { text: "tcp,interval=5s,interval=6s", rule: "interval is given twice" },
  { text: "tcp,interval=10", rule: "interval=10 is not a duration from 1s to 1h" },
  { text: "tcp,interval=999ms", rule: "interval=999ms is not a duration from 1s to 1h" },
  { text: "tcp,interval=3601s", rule: "interval=3601s is not a duration from 1s to 1h" },
  { text: "tcp,timeout=61s", rule: "timeout=61s is not a duration from 1s to 1m" },
  { text: "tcp,failing=0", rule: "failing=0 is not a whole number from 1 to 10" },
  { text: "tcp,passing=11", rule: "passing=11 is not a whole number from 1 to 10" },
  { text: "tcp,passing=1.5", rule: "passing=1.5 is not a whole number from 1 to 10" },
  { text: "http,status=99", rule: "status=99 is neither a status such as 204 nor a range such as 200-399" },
  { text: "http,status=300-200", rule: "status=300-200 is neither a status such as 204 nor a range such as 200-399" },
])("--check $text is refused: $rule", async ({ text, rule }) => {
  const { exit, stderr } = await registering(text);
  expect(exit).toBe(2);
  expect(stderr).toContain(`invalid --check ${text}: ${rule}`);
});
