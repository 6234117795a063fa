/** A gateway on free loopback ports over a fake catalog, with what it counted. */

import { type DnsGateway, type DnsGatewayOptions, startDnsGateway } from "../../src/dns/server/server.io.ts";
import { onlyView } from "../../src/dns/views/query-client.ts";
import { type CounterName, type LabelsOf, Metrics } from "../../src/lib/metrics/metrics.ts";
import { Rng } from "../../src/lib/rng.ts";
import { type FakeDnsCatalog, TEST_DNS_SETTINGS } from "./dns-catalog.ts";
import { SETTINGS } from "./options.ts";

export interface TestGateway extends AsyncDisposable {
  readonly gateway: DnsGateway;
  readonly catalog: FakeDnsCatalog;
  readonly faults: unknown[];
  count<N extends CounterName>(name: N, labels: LabelsOf<N>): number;
}

export async function startTestGateway(catalog: FakeDnsCatalog, options: Partial<DnsGatewayOptions> = {}): Promise<TestGateway> {
  const rng = new Rng("gateway");
  const metrics = new Metrics();
  const faults: unknown[] = [];
  const gateway = await startDnsGateway({
    host: "127.0.0.1",
    udpPort: 0,
    settings: TEST_DNS_SETTINGS,
    select: () => onlyView(catalog),
    random: () => rng.next(),
    serialOf: () => 1,
    metrics,
    onFault: (fault) => faults.push(fault),
    planBytes: SETTINGS.dns.planBytes,
    ...options,
  });
  return {
    gateway,
    catalog,
    faults,
    count: (name, labels) => metrics.counter(name, labels).value,
    [Symbol.asyncDispose]: () => gateway.stop(),
  };
}
