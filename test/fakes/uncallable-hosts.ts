/** One address of each block that no client can connect to, with the reason that an error gives. */
export const UNCALLABLE_HOSTS = [
  { host: "0.0.0.0", reason: "an unspecified address" },
  { host: "0.1.2.3", reason: "an unspecified address" },
  { host: "::", reason: "an unspecified address" },
  { host: "::ffff:0.0.0.0", reason: "an unspecified address" },
  { host: "224.0.0.251", reason: "a multicast address" },
  { host: "::ffff:239.1.2.3", reason: "a multicast address" },
  { host: "ff02::fb", reason: "a multicast address" },
  { host: "255.255.255.255", reason: "the broadcast address" },
  { host: "240.0.0.1", reason: "a reserved address" },
  { host: "fe80::1", reason: "a link-local address without a zone" },
] as const;
