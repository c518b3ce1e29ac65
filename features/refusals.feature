Feature: What cannot be a job, or cannot be done, is refused
  Contract, sections 2, 3 and 8. The agent runs on, nothing is made, and the sender is told why, if there is one to
  tell. Whatever arrives, `…/jobs` carries nothing but PENDING.

  Background:
    Given a running agent

  Rule: A payload that is no job is refused before it is one, without PENDING

    Scenario Outline: Create: <what>
      When it publishes to create:
        """
        <payload>
        """
      Then it is refused with "bad-request"
      And the agent still serves, and nothing is left

      Examples: Sizes
        | what                      | payload                                                                                       |
        | no size                   | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r"}                                   |
        | size 0                    | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "0"}                |
        | size 0 as a number        | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": 0}                  |
        | a negative size           | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "-1"}               |
        | a negative number         | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": -1}                 |
        | a size that is not whole  | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "1.5"}              |
        | a number that is not      | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": 1.5}                |
        | a size with exponent      | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": 1e3}                |
        | above 16 TiB              | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16777217"}         |
        | beyond any number         | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "99999999999999999999999"} |
        | a size with a unit        | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16M"}              |
        | an empty size             | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": ""}                 |
        | a size with blanks        | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": " 16 "}             |
        | a size that is a list     | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": ["16"]}             |
        | a size that is true       | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": true}               |

      Examples: Ids
        | what                      | payload                                                                                       |
        | no id                     | {"sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16"}                           |
        | an empty id               | {"job": "", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16"}                |
        | an id with a blank        | {"job": "a b", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16"}             |
        | an id beyond ASCII        | {"job": "ä", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16"}               |
        | an id of 129 characters   | {"job": "{129 characters}", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16"} |
        | an id that is a number    | {"job": 7, "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16"}                 |
        | two ids that differ       | {"job": "r", "jobId": "s", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16"} |

      Examples: Places and options
        | what                      | payload                                                                                       |
        | neither place nor name    | {"job": "r", "sipId": "{sender}", "volumeSize": "16"}                                         |
        | two places that differ    | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "mountPoint": "{root}/s", "volumeSize": "16"} |
        | a place that is a list    | {"job": "r", "sipId": "{sender}", "mountPount": ["{root}/r"], "volumeSize": "16"}             |
        | a name with a path        | {"job": "r", "sipId": "{sender}", "name": "../r", "mountPount": "{root}/r", "volumeSize": "16"} |
        | a name with an option     | {"job": "r", "sipId": "{sender}", "name": "-rf", "mountPount": "{root}/r", "volumeSize": "16"} |
        | a name of 129 characters  | {"job": "r", "sipId": "{sender}", "name": "{129 characters}", "volumeSize": "16"}             |
        | a store with a path       | {"job": "r", "sipId": "{sender}", "store": "a/b", "mountPount": "{root}/r", "volumeSize": "16"} |
        | an unknown file system    | {"job": "r", "sipId": "{sender}", "fs": "ntfs", "mountPount": "{root}/r", "volumeSize": "16"} |
        | a command as file system  | {"job": "r", "sipId": "{sender}", "fs": "ext4; reboot", "mountPount": "{root}/r", "volumeSize": "16"} |
        | a mode that is not octal  | {"job": "r", "sipId": "{sender}", "mode": "0999", "mountPount": "{root}/r", "volumeSize": "16"} |
        | a mode in words           | {"job": "r", "sipId": "{sender}", "mode": "rwx", "mountPount": "{root}/r", "volumeSize": "16"} |
        | a negative owner          | {"job": "r", "sipId": "{sender}", "uid": -1, "mountPount": "{root}/r", "volumeSize": "16"}    |
        | an owner beyond any       | {"job": "r", "sipId": "{sender}", "uid": 4294967295, "mountPount": "{root}/r", "volumeSize": "16"} |
        | a group in words          | {"job": "r", "sipId": "{sender}", "gid": "users", "mountPount": "{root}/r", "volumeSize": "16"} |
        | an unknown provision      | {"job": "r", "sipId": "{sender}", "provision": "fat", "mountPount": "{root}/r", "volumeSize": "16"} |

      Examples: The document
        | what                      | payload                                                                                       |
        | a key twice               | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16", "volumeSize": "16"} |
        | a key twice, further in   | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16", "x": {"a": 1, "a": 2}} |
        | nested 9 deep             | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16", "x": [[[[[[[[1]]]]]]]]} |
        | nested 2000 deep          | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16", "x": {2000 deep}} |
        | larger than 64 KiB        | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "volumeSize": "16", "x": "{64 KiB}"} |

    Scenario Outline: Delete: <what>
      When it publishes to delete:
        """
        <payload>
        """
      Then it is refused with "bad-request"
      And the agent still serves, and nothing is left

      Examples:
        | what                      | payload                                                                                       |
        | neither place nor name    | {"job": "r", "sipId": "{sender}"}                                                             |
        | no id                     | {"sipId": "{sender}", "mountPount": "{root}/r"}                                               |
        | two places that differ    | {"job": "r", "sipId": "{sender}", "mountPount": "{root}/r", "mountPoint": "{root}/s"}         |

  Rule: A mount point outside of what is allowed is refused, without PENDING

    Scenario Outline: The mount point is <what>
      When it publishes to <kind>:
        """
        {"job": "p", "sipId": "{sender}", "mountPount": "<path>", "volumeSize": "16"}
        """
      Then it is refused with "forbidden-path"
      And the agent still serves, and nothing is left

      Examples:
        | what                          | kind   | path                                    |
        | relative                      | create | mnt/relative                            |
        | empty                         | create |                                         |
        | the root of the host          | create | /                                       |
        | outside every root            | create | /etc/dvs-e2e                            |
        | outside, for delete too       | delete | /etc/dvs-e2e                            |
        | a neighbour of a root         | create | /mntx/a                                 |
        | above a root                  | create | /var/lib/docker                         |
        | a root that is not itself one | create | /var/lib/docker/volumes                 |
        | the agent's own place         | create | /var/lib/dvs/mounts                     |
        | in the agent's own place      | create | /var/lib/dvs/mounts/a                   |
        | with ..                       | create | {root}/../../etc                        |
        | with .                        | create | {root}/./a                              |
        | with a trailing slash         | create | {root}/a/                               |
        | with a doubled slash          | create | {root}//a                               |
        | longer than a path can be     | create | {root}{5000 characters of path}         |
        | longer than a name can be     | create | {root}/{256 characters}                 |
        | with a control character      | create | {root}/a{NUL}b                          |
        | with a line feed              | create | {root}/a{LF}b                           |

  Rule: What cannot be done is told, and leaves nothing

    Scenario: A mount point that is a link
      Given a directory "real"
      And a link "link" to "real"
      When a create job of 16 MiB for "link" is sent
      Then it fails with "forbidden-path"
      And the agent still serves, and nothing is left

    Scenario: A link on the way to the mount point
      Given a directory "real"
      And a link "link" to "real"
      When a create job of 16 MiB for "link/below" is sent
      Then it fails with "forbidden-path"
      And the agent still serves, and nothing is left

    Scenario: A link on the way that leads out of every root
      Given a link "out" to "/etc"
      When a create job of 16 MiB for "out/dvs-e2e" is sent
      Then it fails with "forbidden-path"
      And "/etc/dvs-e2e" does not exist on this machine
      And the agent still serves, and nothing is left

    Scenario: A delete through a link
      Given a directory "real"
      And a link "link" to "real"
      When a delete job for "link/below" is sent
      Then it fails with "forbidden-path"
      And the agent still serves, and nothing is left

    Scenario: A file at the mount point
      Given a file "file"
      When a create job of 16 MiB for "file" is sent
      Then it fails with "conflict"
      And the file "file" is as it was
      And the agent still serves, and nothing is left

    Scenario: A file on the way to the mount point
      Given a file "file"
      When a create job of 16 MiB for "file/below" is sent
      Then it fails with "conflict"
      And the file "file" is as it was
      And the agent still serves, and nothing is left

    @loop
    Scenario: A foreign mount at the mount point
      Given a foreign mount at "foreign"
      When a create job of 16 MiB for "foreign" is sent
      Then it fails with "conflict"
      And the foreign mount at "foreign" is still there

    Scenario: Inside another volume
      Given a volume of 16 MiB at "outer"
      When a create job of 16 MiB for "outer/inner" is sent
      Then it fails with "conflict"
      And the volume at "outer" is the same as before
      And "outer/inner" does not exist
      And a volume is attached at "outer"

    Scenario: Above another volume
      Given a volume of 16 MiB at "above/volume"
      When a create job of 16 MiB for "above" is sent
      Then it fails with "conflict"
      And no volume is attached at "above"
      And a volume is attached at "above/volume"

    Scenario: Another volume at the same mount point
      Given a volume of 16 MiB at "taken" named "one"
      When a create job of 16 MiB for "taken" is sent with:
        | name | two |
      Then it fails with "conflict"
      And the volumes are:
        | name | mounted at |
        | one  | taken      |

    Scenario: The same volume at another mount point
      Given a volume of 16 MiB at "here" named "one"
      When a create job of 16 MiB for "there" is sent with:
        | name | one |
      Then it fails with "conflict"
      And "there" does not exist
      And the volumes are:
        | name | mounted at |
        | one  | here       |

    Scenario: The same volume with other content, each difference named
      Given a volume of 128 MiB at "same"
      When a create job of 300 MiB for "same" is sent with:
        | fs        | xfs   |
        | uid       | 77    |
        | gid       | 78    |
        | mode      | 0701  |
        | provision | thick |
      Then it fails with "conflict"
      And its reason names "128 MiB" and "300 MiB"
      And its reason names "ext4" and "xfs"
      And its reason names "77" and "78"
      And its reason names "0755" and "0701"
      And its reason names "thin" and "thick"
      And the volume at "same" is the same as before

    Scenario Outline: Too small for its file system: <fs>
      When a create job of <size> MiB for "small" is sent with:
        | fs | <fs> |
      Then it fails with "bad-request"
      And its reason names "<fs>" and "<least>"
      And the agent still serves, and nothing is left

      Examples:
        | fs    | size | least   |
        | xfs   | 299  | 300 MiB |
        | btrfs | 108  | 109 MiB |

    Scenario: Thin, beyond what the store may promise
      When a create job of 16777216 MiB for "huge" is sent
      Then it fails with "no-space"
      And the agent still serves, and nothing is left

    Scenario: Thick, beyond what is free
      When a create job of 16777216 MiB for "huge" is sent with:
        | provision | thick |
      Then it fails with "no-space"
      And the agent still serves, and nothing is left

    Scenario: A store that is not configured
      When a create job of 16 MiB for "nowhere" is sent with:
        | store | tape |
      Then it is refused with "no-such-store"
      And its reason names "tape"
      And the agent still serves, and nothing is left

    Scenario: A delete in a store that is not configured
      When a delete job for "nowhere" is sent with:
        | store | tape |
      Then it is refused with "no-such-store"
      And the agent still serves, and nothing is left

  Rule: What arrives elsewhere, or is old, is no job

    Scenario Outline: A job at `…/volumes<topic>`
      When a good create job is published to "volumes<topic>"
      Then it is refused with "unknown-topic"
      And the agent still serves, and nothing is left

      Examples:
        | topic         |
        |               |
        | /             |
        | /resize       |
        | /CREATE       |
        | /create/again |
        | //create      |

    Scenario: A job that the broker kept
      Given the agent is stopped and forgotten by the broker
      When a good create job is published to "volumes/create", retained
      And the agent starts
      Then it is refused with "unknown-topic"
      And the agent still serves, and nothing is left

  @serial
  Rule: Without a usable sender nobody is told, and the agent runs on

    Scenario Outline: No usable sender: <what>
      Given everything that is published is listened to
      When it publishes to create:
        """
        <payload>
        """
      Then nobody is told anything
      And the agent still serves, and nothing is left

      Examples:
        | what                          | payload                                                                        |
        | none                          | {"job": "n", "mountPount": "{root}/n", "volumeSize": "16"}                     |
        | empty                         | {"job": "n", "sipId": "", "mountPount": "{root}/n", "volumeSize": "16"}        |
        | a path                        | {"job": "n", "sipId": "a/b", "mountPount": "{root}/n", "volumeSize": "16"}     |
        | a wildcard                    | {"job": "n", "sipId": "+", "mountPount": "{root}/n", "volumeSize": "16"}       |
        | another wildcard              | {"job": "n", "sipId": "#", "mountPount": "{root}/n", "volumeSize": "16"}       |
        | a control character           | {"job": "n", "sipId": "a{NUL}", "mountPount": "{root}/n", "volumeSize": "16"}  |
        | 129 characters                | {"job": "n", "sipId": "{129 characters}", "mountPount": "{root}/n", "volumeSize": "16"} |
        | a number                      | {"job": "n", "sipId": 7, "mountPount": "{root}/n", "volumeSize": "16"}         |
        | two that differ               | {"job": "n", "sipId": "{sender}", "sipId": "other", "mountPount": "{root}/n", "volumeSize": "16"} |
        | pseudo-JSON of 2015           | {jobId : 0b0b8c42-6a1c-4a52-9d0a-7ff2c0d2a6c1, sipId : {sender}, mountPoint : {root}/n, volumeSize : 16} |
        | a list                        | [{"job": "n", "sipId": "{sender}", "mountPount": "{root}/n", "volumeSize": "16"}] |
        | a text                        | "create"                                                                       |
        | null                          | null                                                                           |
        | cut off                       | {"job": "n", "sipId": "{sender}", "mountPount": "{root}/n",                    |
        | two objects                   | {"job": "n", "sipId": "{sender}", "mountPount": "{root}/n", "volumeSize": "16"} {} |
        | larger than anything is read  | {"job": "n", "sipId": "{sender}", "mountPount": "{root}/n", "volumeSize": "16", "x": "{3 MiB}"} |
        | single quotes                 | {'job': 'n', 'sipId': '{sender}', 'mountPount': '{root}/n', 'volumeSize': '16'} |

    Scenario: An empty payload
      Given everything that is published is listened to
      When it publishes to create these bytes: ""
      Then nobody is told anything
      And the agent still serves, and nothing is left

    Scenario: Bytes that are no text
      Given everything that is published is listened to
      When it publishes to create these bytes: "7b ff fe 00 80 7d"
      Then nobody is told anything
      And the agent still serves, and nothing is left

    Scenario: A job with bytes that are no text in it
      Given everything that is published is listened to
      When it publishes to create a good job with the bytes "ff fe" in its place
      Then nobody is told anything
      And the agent still serves, and nothing is left

    Scenario: Pseudo-JSON at the parent topic, as very old senders published it
      Given everything that is published is listened to
      When this is published to "volumes":
        """
        {jobId : 0b0b8c42-6a1c-4a52-9d0a-7ff2c0d2a6c1, sipId : host.example, mountPoint : {root}/n, volumeSize : 16}
        """
      Then nobody is told anything
      And the agent still serves, and nothing is left
