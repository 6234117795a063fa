import { expect, test } from "vitest";
import { clusterOfServerName, serverNameOf } from "../../../src/lib/certificates/server-names.ts";

// Names of borders are tested in test/fabric/transport/border-gate.io.test.ts.
test.each([
  { clusterId: "eu", serverName: "6575.issuer.waymark" },
  { clusterId: "us-west.1", serverName: "75732d776573742e31.issuer.waymark" },
  { clusterId: "x".repeat(31), serverName: `${"78".repeat(30)}.78.issuer.waymark` },
  { clusterId: "x".repeat(64), serverName: `${"78".repeat(30)}.${"78".repeat(30)}.78787878.issuer.waymark` },
])("the server name of issuers contains the cluster $clusterId", ({ clusterId, serverName }) => {
  expect(serverNameOf(clusterId, "issuer")).toBe(serverName);
  expect(clusterOfServerName(serverName, "issuer")).toBe(clusterId);
  expect(clusterOfServerName(serverName, "border")).toBeUndefined();
  expect(clusterOfServerName(serverNameOf(clusterId, "border"), "issuer")).toBeUndefined();
});

test.each([
  "",
  "issuer.waymark",
  "eu.issuer.waymark",
  "6575.issuer.waymark.",
  "6575.ISSUER.waymark",
  "6575.issuer.waymark.example",
  "6575.issuers.waymark",
  "a.6575.issuer.waymark.6575.issuer.waymark",
  "657.issuer.waymark.",
  // An end of line and a character outside ASCII are in no cluster id.
  "0a.issuer.waymark",
  "c3a9.issuer.waymark",
  `${"78".repeat(31)}.issuer.waymark`,
  `${"78".repeat(30)}.${"78".repeat(30)}.7878787878.issuer.waymark`,
])("%j is no server name of an issuer", (serverName) => {
  expect(clusterOfServerName(serverName, "issuer")).toBeUndefined();
});
