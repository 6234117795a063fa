/** Settings of the checks of entries: the group `checks` of SETTINGS in `settings.ts`. */
import { bool, list } from "./field.ts";
import { AT_RESOLVER } from "./resolver.ts";

export const CHECK_SETTINGS = {
  enabled: bool({
    notForResolver: `${AT_RESOLVER.records}, and so checks none`,
    default: false,
    doc: "Run the checks of entries that are registered here. While it is false, a registration with checks is refused, so that no entry with checks goes unwatched.",
  }),
  allowed: list({
    pattern: /^[0-9a-fA-F:.]{2,45}(?:\/\d{1,3})?$/,
    what: "an address or a block such as 10.0.0.0/8",
    maxItems: 256,
    default: [],
    doc: "Addresses, and blocks of addresses, that checks may connect to; none when empty. Loopback addresses, IPv4 link-local addresses, addresses of cloud metadata services, and IPv6 forms of IPv4 addresses are allowed only by a block that lies completely within their range: 0.0.0.0/0 does not allow them. Addresses that no client can connect to, such as multicast and unspecified addresses, are never allowed.",
  }),
} as const;
