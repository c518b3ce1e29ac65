Feature: After a reboot everything is back, or told
  Contract, section 5: ready means that every volume that should be attached is attached, or guarded and reported.

  @loop @failpoints
  Scenario: Everything is unmounted and detached, and much is broken
    Given an agent whose mounting waits 300 milliseconds each time
    And the agent starts under a service manager
    And a volume of 16 MiB at "healthy" named "healthy"
    And a volume of 16 MiB at "other/healthy" named "other"
    And a volume of 16 MiB at "cut-off" named "cut-off"
    And a volume of 16 MiB at "half-record" named "half-record"
    And a volume of 16 MiB at "no-record" named "no-record"
    And a volume of 16 MiB at "broken-image" named "broken-image"
    And a volume of 16 MiB at "lost-image" named "lost-image"
    And a file at "healthy/precious"
    And a file at "other/healthy/precious"
    And a file at "half-record/precious"
    And a file at "cut-off/precious" that is on disk
    And an image without a record in the folder "foreign"
    When the agent is stopped
    And everything is unmounted and detached by hand, but "cut-off" loses power while "cut-off" is mounted
    And one copy of the record of "half-record" is damaged
    And both copies of the record of "no-record" are damaged
    And the file system in the image of "broken-image" is damaged
    And the image of "lost-image" is lost
    And the agent starts under a service manager
    Then when it said that it is ready, these were attached:
      | healthy       |
      | other/healthy |
      | cut-off       |
      | half-record   |
    And when it said that it is ready, these were guarded:
      | no-record    |
      | broken-image |
      | lost-image   |
    And the file "healthy/precious" is as it was
    And the file "other/healthy/precious" is as it was
    And the file "half-record/precious" is as it was
    And the file "cut-off/precious" is as it was
    And nobody can write to "no-record"
    And nobody can write to "broken-image"
    And the agent lists:
      | name         | place         | state    | reason                  |
      | broken-image | broken-image  | damaged  | UNEXPECTED              |
      | cut-off      | cut-off       | attached |                         |
      | foreign      |               | damaged  | `record` is missing     |
      | half-record  | half-record   | attached |                         |
      | healthy      | healthy       | attached |                         |
      | lost-image   | lost-image    | damaged  | its image is missing    |
      | no-record    | no-record     | damaged  | `record` is no record   |
      | other        | other/healthy | attached |                         |
    And both copies of the record of "half-record" are whole
    And the image without a record in the folder "foreign" is untouched
    And no image has more than one loop device
    When one types "dvs check --state {state} --store {store}={url}"
    Then it prints "volume {store}/broken-image"
    And it prints "volume {store}/foreign"
    When a delete job for "broken-image" is sent
    Then it is answered PENDING and DONE, and nothing else
    And no volume is mounted at "broken-image"

  @loop
  Scenario: What was mended by hand is attached over its guard
    Given a running agent
    And a volume of 16 MiB at "a" named "a"
    And a file at "a/precious"
    When the agent is stopped
    And everything is unmounted and detached by hand
    And both copies of the record of "a" are damaged
    And the agent starts
    Then "a" is guarded
    When the agent is stopped
    And the record of "a" is restored
    And the agent starts
    Then a volume is attached at "a"
    And the file "a/precious" is as it was
    When a delete job for "a" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  @loop
  Scenario Outline: The disk of the store is not mounted, and its volumes are neither forgotten nor made anew
    Given a running agent
    And a volume of 16 MiB at "a" named "a"
    And a file at "a/precious"
    When the agent is stopped
    And everything is unmounted and detached by hand
    And the store's folder is away, and <below> is in its place
    And the agent starts
    Then "a" is guarded
    When a delete job for "a" is sent
    Then it fails with "store-unavailable"
    When a create job of 16 MiB for "a" is sent
    Then it fails with "store-unavailable"
    And "a" is guarded
    When the agent is stopped
    And the store's folder is back
    And the agent starts
    Then a volume is attached at "a"
    And the file "a/precious" is as it was

    Examples:
      | below           |
      | an empty folder |
      | an old store    |

  @loop
  Scenario Outline: A volume that has lost power is as empty as before: <file system>
    Given a running agent
    When a create job of 16 MiB for "a" is sent with:
      | name | a             |
      | fs   | <file system> |
    Then it is answered PENDING and DONE, and nothing else
    And the volume at "a" is empty
    When the agent is stopped
    And everything is unmounted and detached by hand, but "a" loses power while "a" is mounted
    And the agent starts
    Then a volume is attached at "a"
    And the volume at "a" is empty

    Examples:
      | file system |
      | ext2        |
      | ext3        |
      | ext4        |

  @loop
  Scenario: A device that nobody mounts, left by whatever was killed, is used and not doubled
    Given a running agent
    And a volume of 16 MiB at "a" named "a"
    And a file at "a/precious"
    When the agent is stopped
    And everything is unmounted and detached by hand
    And the image of "a" is bound to a loop device by hand
    And the agent starts
    Then a volume is attached at "a"
    And the file "a/precious" is as it was
    And no image has more than one loop device
    When a delete job for "a" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  @loop
  Scenario: Somebody else's mount at a mount point stays, and is told
    Given a running agent
    And a directory "there"
    And a volume of 16 MiB at "there" named "a"
    When the agent is stopped
    And everything is unmounted and detached by hand
    And somebody mounts a foreign file system at "there"
    And the agent starts
    Then the foreign mount at "there" is still there
    And the agent lists:
      | name | place | state        | reason  |
      | a    | there | not-attached | tmpfs   |

  @loop
  Scenario: An agent that was killed with everything mounted comes back without touching it
    Given a running agent
    And a volume of 16 MiB at "a" named "a"
    And a file at "a/precious"
    When the agent is killed
    And the agent starts
    Then the volume at "a" is the same as before
    And the file "a/precious" is as it was
    And no image has more than one loop device

  @loop @failpoints
  Scenario: An agent can be told to stop while it attaches
    Given a running agent
    And a volume of 16 MiB at "a" named "a"
    When the agent is stopped
    And everything is unmounted and detached by hand
    And the agent starts, and its mounting takes for ever
    And the agent is asked to stop
    Then it ends well
