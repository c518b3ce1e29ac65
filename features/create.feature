Feature: A create job makes a volume and shows it at its mount point
  Contract, section 3. The volume is there, whole and empty, when DONE is said.

  @loop @serial
  Scenario: The specification's examples
    Given a running agent
    And the sender "abcdefghi"
    When it publishes to create:
      """
      {
        "job" : "1234567890",
        "sipId" : "abcdefghi",
        "mountPount" : "{root}/example",
        "volumeSize" : "5000"
      }
      """
    Then it is answered PENDING and DONE, and nothing else
    And a volume of about 5000 MiB is mounted at "example"
    And what is mounted at "example" is "nosuid,nodev"
    And the volume at "example" is empty
    When it publishes to delete:
      """
      {
        "job" : "1234567890",
        "sipId" : "abcdefghi",
        "mountPount" : "{root}/example"
      }
      """
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  @loop
  Scenario: The exact bytes that deployed senders publish
    Given a running agent
    When it publishes to create:
      """
      {"jobId" : "0b0b8c42-6a1c-4a52-9d0a-7ff2c0d2a6c1", "sipId" : "{sender}", "mountPoint" : "{root}/deployed", "volumeSize" : "5000"}
      """
    Then it is answered PENDING and DONE, and nothing else
    And a volume of about 5000 MiB is mounted at "deployed"
    And what is mounted at "deployed" is "nosuid,nodev"
    And the volume at "deployed" is empty
    When it publishes to delete:
      """
      {"jobId" : "0b0b8c42-6a1c-4a52-9d0a-7ff2c0d2a6c1", "sipId" : "{sender}", "mountPoint" : "{root}/deployed"}
      """
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  @loop @serial
  Scenario: The specification's examples as they stand, at /mnt itself
    Given a running agent in a mount namespace of its own
    And the sender "abcdefghi"
    When it publishes to create:
      """
      {
        "job" : "1234567890",
        "sipId" : "abcdefghi",
        "mountPount" : "/mnt",
        "volumeSize" : "5000"
      }
      """
    Then it is answered PENDING and DONE, and nothing else
    And a volume of about 5000 MiB is mounted at "/mnt"
    And what is mounted at "/mnt" is "nosuid,nodev"
    And the volume at "/mnt" is empty
    When it publishes to delete:
      """
      {
        "job" : "1234567890",
        "sipId" : "abcdefghi",
        "mountPount" : "/mnt"
      }
      """
    Then it is answered PENDING and DONE, and nothing else
    And no volume is mounted at "/mnt"
    And nothing is left

  Scenario Outline: Both spellings, and the size as text or number: <what>
    Given a running agent
    When it publishes to create:
      """
      {"sipId": "{sender}", <keys>}
      """
    Then it is answered PENDING and DONE, and nothing else
    And a volume is attached at "a"
    When a delete job for "a" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

    Examples:
      | what                    | keys                                                                                                              |
      | documented keys         | "job": "k", "mountPount": "{root}/a", "volumeSize": "16"                                                          |
      | deployed keys           | "jobId": "k", "mountPoint": "{root}/a", "volumeSize": "16"                                                        |
      | both, equal             | "job": "k", "jobId": "k", "mountPoint": "{root}/a", "mountPount": "{root}/a", "volumeSize": "16"                  |
      | size as a number        | "job": "k", "mountPount": "{root}/a", "volumeSize": 16                                                            |
      | unknown keys beside     | "job": "k", "mountPount": "{root}/a", "volumeSize": 16, "colour": "blue", "more": {"of": ["it", 1, null, true]}   |

  @loop
  Scenario Outline: Each file system: <fs>
    Given a running agent
    When a create job of <size> MiB for "disk" is sent with:
      | fs | <fs> |
    Then it is answered PENDING and DONE, and nothing else
    And what is mounted at "disk" is a file system "<fs>"
    And what is mounted at "disk" is "nosuid,nodev"
    And the volume at "disk" is empty
    And a file can be written and read at "disk"
    When a delete job for "disk" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

    Examples:
      | fs    | size |
      | ext2  | 16   |
      | ext3  | 32   |
      | ext4  | 16   |
      | xfs   | 300  |
      | btrfs | 109  |

  @loop
  Scenario: A thin volume takes no room until it is written to
    Given a running agent
    When a create job of 1000 MiB for "thin" is sent
    Then it is answered PENDING and DONE, and nothing else
    And the image takes less than 100 MiB

  @loop
  Scenario: A thick volume takes its room at once, and still after formatting
    Given a running agent
    When a create job of 64 MiB for "thick" is sent with:
      | provision | thick |
    Then it is answered PENDING and DONE, and nothing else
    And the image takes at least 64 MiB

  @loop
  Scenario: The size is a limit
    Given a running agent
    And a volume of 16 MiB at "small"
    When a program writes 32 MiB to "small"
    Then it is told that there is no space
    And less than 16 MiB arrived at "small"

  @loop
  Scenario: The volume belongs to whom was asked for
    Given a running agent
    When a create job of 16 MiB for "owned" is sent with:
      | uid  | 1001 |
      | gid  | 1002 |
      | mode | 0750 |
    Then it is answered PENDING and DONE, and nothing else
    And the top of the volume at "owned" belongs to 1001:1002 with mode 0750
    And the volume at "owned" is empty

  @loop
  Scenario: A directory that is there, with files, is hidden and comes back
    Given a running agent
    And a directory "busy" with a file "keep"
    When a create job of 16 MiB for "busy" is sent
    Then it is answered PENDING and DONE, and nothing else
    And the volume at "busy" is empty
    When a delete job for "busy" is sent
    Then it is answered PENDING and DONE, and nothing else
    And the file "busy/keep" is as it was
    And nothing is left

  Scenario: Missing directories are made, and go with the volume
    Given a running agent
    And a directory "there"
    When a create job of 16 MiB for "there/new/deep" is sent
    Then it is answered PENDING and DONE, and nothing else
    And a volume is attached at "there/new/deep"
    When a delete job for "there/new/deep" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: A volume by its name alone is made and not attached
    Given a running agent
    When it publishes to create:
      """
      {"job": "n", "sipId": "{sender}", "name": "archive", "volumeSize": 16}
      """
    Then it is answered PENDING and DONE, and nothing else
    And the volumes are:
      | name    | mounted at |
      | archive |            |
    When it publishes to delete:
      """
      {"job": "n", "sipId": "{sender}", "name": "archive"}
      """
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: A volume has the name that was given
    Given a running agent
    When a create job of 16 MiB for "data" is sent with:
      | name | pg-data_1.x |
    Then it is answered PENDING and DONE, and nothing else
    And the volumes are:
      | name        | mounted at |
      | pg-data_1.x | data       |
    When a delete job for "data" is sent
    Then it is answered PENDING and DONE, and nothing else
    And nothing is left

  Scenario: Volumes side by side do not disturb each other
    Given a running agent
    And a volume of 16 MiB at "left"
    And a volume of 16 MiB at "right"
    When a delete job for "left" is sent
    Then it is answered PENDING and DONE, and nothing else
    And no volume is attached at "left"
    And a volume is attached at "right"
    And a file can be written and read at "right"
